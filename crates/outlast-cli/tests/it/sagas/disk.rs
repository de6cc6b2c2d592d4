//! A disk that is really full: a file system of two megabytes, with a gateway's sagas on it.
//!
//! It is mounted in a namespace of its own that lives as long as one process holds it, so that nothing
//! is left behind, and so that it outlives the gateway.

use std::io::BufRead;

use super::*;

/// A small file system.
pub(crate) struct Small {
    holder: Child,
    /// Where it is, for those within.
    at: PathBuf,
    /// What runs a program there.
    pub(crate) enter: Vec<String>,
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Small {
    /// As root, or where everybody may have a namespace of users.
    pub(crate) fn mount(at: &Path) -> Small {
        let is_root = text(&Command::new("id").arg("-u").output().unwrap().stdout).trim() == "0";
        let (own, theirs): (&[&str], &[&str]) = if is_root {
            (&["-m"], &["-m"])
        } else {
            (&["-r", "-m"], &["-U", "--preserve-credentials", "-m"])
        };
        std::fs::create_dir_all(at).unwrap();
        let mount = "mount -t tmpfs -o size=2m tmpfs \"$0\" && echo ready && exec cat";
        let mut holder = Command::new("unshare")
            .args(own)
            .args(["sh", "-c", mount])
            .arg(at)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let told = holder.stdout.take().unwrap();
        std::io::BufReader::new(told).read_line(&mut said).unwrap();
        assert_eq!(
            said, "ready\n",
            "a file system could not be mounted: run it as root"
        );
        let process = holder.id().to_string();
        let words = [&["nsenter", "-t", &process], theirs].concat();
        let words = words
            .into_iter()
            .chain(["sh", "-c", "cd \"$0\" && exec \"$@\""]);
        let mut enter: Vec<_> = words.map(str::to_owned).collect();
        let above = at.parent().unwrap();
        enter.push(above.to_str().unwrap().to_owned());
        Small {
            holder,
            at: at.to_owned(),
            enter,
        }
    }

    /// A file of it, as it is found from outside.
    fn file(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.at.strip_prefix("/").unwrap()).join(name)
    }

    /// Nothing more can be written.
    pub(crate) fn fill(&self) {
        let mut filler = File::create(self.file("filler")).unwrap();
        let mut chunk = vec![7; 65536];
        while !chunk.is_empty() {
            if filler.write_all(&chunk).is_err() {
                // What fits is written in ever smaller pieces.
                chunk.truncate(chunk.len() / 2);
            }
        }
        std::fs::write(self.file("more"), "x").unwrap_err();
    }

    pub(crate) fn free(&self) {
        let _ = std::fs::remove_file(self.file("more"));
        std::fs::remove_file(self.file("filler")).unwrap();
    }
}

#[test]
fn sagas_wait_while_the_disk_is_full_and_go_on_when_it_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let small = Small::mount(&folder.path().join("small"));
    let runs = small.enter.clone();
    let mut shop = Shop::open_with(folder, runs, |plan| {
        let plan = plan.replace("timeout: 1s", "timeout: 60s");
        format!("{plan}store: {{ sqlite: small/sagas.db }}\n")
    });
    let waiting = |round: u32, number: u32| format!("waiting-{round}-{number}");
    for round in 0..3 {
        let charged = shop.folder.path().join("payment.go");
        let _ = std::fs::remove_file(&charged);
        for number in 0..4 {
            let id = waiting(round, number);
            shop.begin(&id, "a book", "charge:wait");
            wait_until("it is charged", || {
                shop.books(&id).contains(&format!("do {id}/charge"))
            });
        }
        let asked = format!("asked-{round}");
        shop.begin(&asked, "a book", "charge:wait");
        wait_until("it is charged", || {
            shop.books(&asked).contains(&format!("do {asked}/charge"))
        });
        small.fill();
        if round == 2 {
            // Neither does a process that begins when the disk is full do any harm.
            shop.kill();
            shop.serve();
        }
        File::create(&charged).unwrap();
        for number in 0..20 {
            let input = r#"{"item": "a book"}"#;
            let path = format!("/sagas/order?id=new-{round}-{number}");
            let (status, told) = shop.ask("POST", &path, input);
            assert_eq!((status, &told["status"]), (507, &json!(507)), "{told}");
            let detail = told["detail"].as_str().unwrap();
            assert!(detail.contains("make room"), "{detail}");
        }
        for number in 0..4 {
            // What came of the charge cannot be written, so nothing is done about it.
            let id = waiting(round, number);
            let (_, saga) = shop.ask("GET", &format!("/sagas/{id}"), "");
            assert_eq!(saga["state"], "open", "{saga}");
            assert_eq!(shop.books(&id), lines("do", &id, &STEPS[..3]));
        }
        // What somebody asks for is answered, though it cannot be written.
        let by = r#"{"by": "ann", "reason": "test"}"#;
        let (status, told) = shop.ask("POST", &format!("/sagas/{asked}/cancel"), by);
        assert_eq!(status, 507, "{told}");
        let detail = told["detail"].as_str().unwrap();
        assert!(detail.contains("make room"), "{detail}");
        assert!(detail.contains("may still take effect"), "{detail}");
        small.free();
        let ended = shop.until(&asked, "compensated");
        assert_eq!(ended["cause"]["cause"], "cancelled", "{ended}");
        for number in 0..4 {
            let id = waiting(round, number);
            shop.until(&id, "completed");
            assert_eq!(shop.books(&id), lines("do", &id, &STEPS), "each once");
        }
        // Those that were refused had not begun, and can now.
        let path = format!("/sagas/order?id=new-{round}-0&wait=20s");
        let (status, told) = shop.ask("POST", &path, r#"{"item": "a book"}"#);
        assert_eq!((status, &told["new"]), (200, &json!(true)), "{told}");
    }
    // The file is sound, which is looked at at the start, and has all of them and no others.
    shop.kill();
    shop.serve();
    let (_, all) = shop.ask("GET", "/sagas", "");
    let all = all["sagas"].as_array().unwrap();
    assert_eq!(all.len(), 3 * 6);
    let completed = all.iter().filter(|saga| saga["state"] == "completed");
    assert_eq!(completed.count(), 3 * 5, "{all:?}");
}
