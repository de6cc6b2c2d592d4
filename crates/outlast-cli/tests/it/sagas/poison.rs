//! What is too large or cannot be read harms nobody else.

use super::*;

/// The most memory that a process has had, in KiB.
fn most_memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let words = line.unwrap().trim().trim_end_matches(" kB");
    words.trim().parse().unwrap()
}

/// Sends so much, and reads the status of the answer.
fn send(admin: SocketAddr, head: &str, chunk: &[u8], times: usize) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    let head = format!("POST /sagas/order?id=fat HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..times {
        // It need not be read to its end.
        if stream.write_all(chunk).is_err() {
            break;
        }
    }
    let mut answer = [0; 12];
    match stream.read_exact(&mut answer) {
        Ok(()) => String::from_utf8_lossy(&answer).into_owned(),
        // An answer is lost if its sender closes a connection on which more has come.
        Err(error) => error.kind().to_string(),
    }
}

#[test]
fn fifty_megabytes_are_refused_and_others_go_on() {
    let shop = Shop::patient();
    assert_eq!(shop.order("before", "")["state"], "completed");
    let process = shop.gateway.as_ref().unwrap().id();
    let before = most_memory(process);
    let (admin, megabyte) = (shop.admin, vec![b'7'; 1 << 20]);
    let chunk = [b"100000\r\n", &megabyte[..], b"\r\n"].concat();
    std::thread::scope(|scope| {
        let mut sent = Vec::new();
        for _ in 0..4 {
            let length = format!("Content-Length: {}", 50 << 20);
            let (megabyte, chunk) = (&megabyte, &chunk);
            sent.push(scope.spawn(move || send(admin, &length, megabyte, 50)));
            let head = "Transfer-Encoding: chunked";
            sent.push(scope.spawn(move || send(admin, head, chunk, 50)));
        }
        for number in 0..10 {
            let order = shop.order(&format!("beside-{number}"), "");
            assert_eq!(order["state"], "completed", "{order}");
        }
        for sent in sent {
            let answer = sent.join().unwrap();
            let is_refused = answer == "HTTP/1.1 413" || answer.contains("connection reset");
            assert!(is_refused, "{answer}");
        }
    });
    let more = most_memory(process) - before;
    assert!(more < 20 << 10, "it took {more} KiB for 400 MiB");
    let (status, told) = shop.ask("GET", "/sagas/fat", "");
    assert_eq!(status, 404, "{told}");
}

/// What is not there when a request is made is a reason on the log; a step that is not there is an error
/// of the file, at the start.
#[test]
fn a_place_that_names_what_is_not_there_is_told() {
    let shop = Shop::patient();
    let (_, told) = shop.ask("POST", "/sagas/order?id=bare&wait=20s", r#"{"how": ""}"#);
    assert_eq!(told["state"], "compensated", "{told}");
    let (_, bare) = shop.ask("GET", "/sagas/bare", "");
    let error = bare["steps"][0]["error"].as_str().unwrap();
    assert_eq!(error, "its path: there is no `input.item`");
    assert_eq!(shop.story("bare"), Vec::<String>::new());
    assert_eq!(shop.order("beside", "")["state"], "completed");

    let file = shop.folder.path().join("outlast.yaml");
    let plan = std::fs::read_to_string(&file).unwrap();
    let wrong = plan.replace("'{{ input.count? }}'", "'{{ steps.chrage.output.id }}'");
    std::fs::write(&file, wrong).unwrap();
    let output = outlast(shop.folder.path(), &["serve", "outlast.yaml"]);
    let told = text(&output.stderr);
    assert!(
        !output.status.success() && told.contains("chrage"),
        "{told}"
    );
}
