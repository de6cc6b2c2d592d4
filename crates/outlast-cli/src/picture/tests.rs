use super::*;

fn series(name: &str, points: Vec<(f64, f64)>) -> Series {
    Series {
        name: name.to_owned(),
        points,
        colour: 1,
        dashed: true,
    }
}

fn panel(x: &'static str, series: Vec<Series>) -> Panel {
    Panel {
        title: "Goodput".to_owned(),
        unit: "calls/s",
        x,
        log_x: false,
        series,
        bands: Vec::new(),
    }
}

fn picture(panels: Vec<Panel>) -> Picture {
    Picture {
        title: "A shop <a&b>".to_owned(),
        subtitle: "on a \"bad\" day\u{1}".to_owned(),
        panels,
    }
}

/// That tags are closed in order, that texts are escaped, and that numbers are numbers.
fn check(svg: &str) {
    let mut open = Vec::new();
    for part in svg.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap();
        let name = |tag: &str| tag.split([' ', '\n']).next().unwrap().to_owned();
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed.to_owned()), "{svg}");
        } else if !tag.ends_with('/') {
            open.push(name(tag));
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        for entity in text.split('&').skip(1) {
            let known = ["lt;", "gt;", "amp;", "quot;", "apos;"];
            assert!(
                known.iter().any(|known| entity.starts_with(known)),
                "{text}"
            );
        }
    }
    assert!(open.is_empty(), "{open:?} is open");
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1000\""));
    assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains('\u{1}'));
}

fn count(svg: &str, what: &str) -> usize {
    svg.matches(what).count()
}

#[test]
fn lines_faults_and_names_are_there_and_escaped() {
    let mut good = panel(
        "time, s",
        vec![series("<a&b>", vec![(0.0, 1.0), (60.0, 2.0)])],
    );
    let fault = |from, to, name: &str| Band {
        from,
        to,
        name: name.to_owned(),
    };
    good.bands = vec![fault(10.0, 20.0, "\"x\" <down>"), fault(15.0, 70.0, "slow")];
    let svg = svg(&picture(vec![good]));
    check(&svg);
    assert!(svg.contains("A shop &lt;a&amp;b&gt;"));
    for text in [
        "&lt;a&amp;b&gt;",
        "time, s",
        "Goodput, calls/s",
        "&lt;down&gt;",
        "slow",
    ] {
        assert!(svg.contains(text), "{text}");
    }
    assert_eq!(count(&svg, "#ECECEC"), 2, "two faults");
}

#[test]
fn what_cannot_be_drawn_is_told_or_left_out() {
    check(&svg(&picture(vec![])));
    let of =
        |points: &[(f64, f64)]| svg(&picture(vec![panel("", vec![series("", points.to_vec())])]));
    for nothing in [&[][..], &[(f64::NAN, 1.0)], &[(1.0, f64::INFINITY)]] {
        let svg = of(nothing);
        check(&svg);
        assert!(svg.contains("no data"), "{nothing:?}");
    }
    let one = of(&[(4.0, 0.0)]);
    check(&one);
    assert_eq!((count(&one, "<circle"), count(&one, "no data")), (1, 0));
    let gap = of(&[(1.0, 5.0), (2.0, f64::NAN), (3.0, -5.0), (3.0, 1e300)]);
    check(&gap);
    assert_eq!(
        count(&gap, "<circle"),
        1,
        "before the gap there is one point"
    );
    let mut log = panel(
        "",
        vec![series("", vec![(0.0, 1.0), (-1.0, 1.0), (10.0, 1.0)])],
    );
    log.log_x = true;
    let log = svg(&picture(vec![log]));
    check(&log);
    assert_eq!(count(&log, "<circle"), 1, "0 and -1 have no logarithm");
}

#[test]
fn a_legend_is_said_once_if_it_is_the_same_for_all() {
    let line = |name: &str| vec![series(name, vec![(0.0, 1.0), (1.0, 2.0)])];
    let same = svg(&picture(vec![
        panel("", line("with")),
        panel("", line("with")),
    ]));
    assert_eq!(count(&same, "with\n"), 1);
    let others = svg(&picture(vec![
        panel("", line("one")),
        panel("", line("two")),
    ]));
    assert_eq!((count(&others, "one\n"), count(&others, "two\n")), (1, 1));
}

#[test]
fn panels_share_an_axis_up_to_the_next_label() {
    let line = |to: f64| vec![series("", vec![(0.0, 1.0), (to, 2.0)])];
    let panels = [
        panel("", line(700.0)),
        panel("time, s", line(1.0)),
        panel("", line(3.0)),
    ];
    let drawn = picture(panels.to_vec());
    let layout = Layout::new(&drawn);
    let ends: Vec<_> = layout
        .panels
        .iter()
        .map(|placed| placed.axis.range.end)
        .collect();
    assert_eq!(ends, [700.0, 700.0, 3.0]);
    let shown: Vec<_> = layout.panels.iter().map(|placed| placed.has_axis).collect();
    assert_eq!(shown, [false, true, true]);
}

#[test]
fn names_of_faults_at_one_time_are_below_each_other() {
    let mut crowded = panel("", vec![series("", vec![(0.0, 1.0), (100.0, 1.0)])]);
    crowded.bands = vec!["one", "two", "three"]
        .into_iter()
        .map(|name| Band {
            from: 50.0,
            to: 60.0,
            name: name.to_owned(),
        })
        .collect();
    let svg = svg(&picture(vec![crowded]));
    let heights = ["one", "two", "three"].map(|name| {
        let (before, _) = svg.split_once(&format!(">\n{name}\n")).unwrap();
        let (_, tag) = before.rsplit_once(" y=\"").unwrap();
        tag.split('"').next().unwrap().parse::<i32>().unwrap()
    });
    assert!(
        heights.windows(2).all(|pair| pair[1] - pair[0] >= LINE),
        "{heights:?}"
    );
}

#[test]
fn long_texts_are_wrapped_at_words() {
    let lines = wrapped(&"word ".repeat(60), WIDTH);
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| width_of(line) <= WIDTH));
    assert_eq!(wrapped("", WIDTH), Vec::<String>::new());
}

#[test]
fn a_page_holds_the_picture_and_what_is_below_it() {
    let page = html(&picture(vec![]), "<p>seed 7</p>");
    assert!(page.contains("<title>A shop &lt;a&amp;b&gt;</title>"));
    assert!(page.contains("</svg>\n<p>seed 7</p>"));
    let drawn = page.find("<svg").unwrap()..page.find("</svg>").unwrap() + 7;
    check(&page[drawn]);
}
