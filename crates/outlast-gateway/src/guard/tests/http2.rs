//! Rations of frames, in virtual time.

use std::time::Duration;

use super::super::http2::Watch;
use super::super::{Ending, Verdict};
use proptest::collection::vec;
use proptest::prelude::*;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// How many bytes pass, if not all do.
fn passed(watch: &mut Watch, pieces: &[&[u8]], now: Duration) -> Option<usize> {
    let mut passed = 0;
    for piece in pieces {
        match watch.look(piece, || now) {
            Verdict::Pass => passed += piece.len(),
            Verdict::End {
                keep,
                ending: Ending::Bytes(_),
            } => return Some(passed + keep),
            Verdict::End { .. } | Verdict::Erase { .. } => panic!("not an ending of HTTP/2"),
        }
    }
    None
}

fn begun() -> Watch {
    let mut watch = Watch::default();
    assert_eq!(passed(&mut watch, &[PREFACE], Duration::ZERO), None);
    watch
}

#[track_caller]
fn check_burst(frame: &[u8], burst: usize) {
    let flood = frame.repeat(burst + 10);
    // It ends behind the frame that is one too many.
    let expected = Some((burst + 1) * frame.len());
    assert_eq!(passed(&mut begun(), &[&flood], Duration::ZERO), expected);
    let bytes: Vec<_> = flood.chunks(1).collect();
    assert_eq!(passed(&mut begun(), &bytes, Duration::ZERO), expected);
    assert_eq!(
        passed(&mut begun(), &[&frame.repeat(burst)], Duration::ZERO),
        None
    );
}

#[test]
fn floods_end_behind_the_burst() {
    check_burst(&frame(PING, 0, 0, &[0; 8]), 200);
    check_burst(&frame(SETTINGS, 0, 0, &[]), 200);
    check_burst(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]), 200);
    check_burst(&frame(PRIORITY, 0, 1, &[0; 5]), 200);
    check_burst(&frame(DATA, 0, 1, &[]), 200);
    check_burst(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), 1000);
    check_burst(&frame(RST_STREAM, 0, 1, &[0; 4]), 1000);
}

#[test]
fn content_is_not_rationed() {
    let mut watch = begun();
    for frame in [
        frame(DATA, 0, 1, b"hello"),
        frame(DATA, END_STREAM, 1, b""),
        frame(HEADERS, END_HEADERS, 1, b"hello"),
        frame(0xbe, 0, 1, b""),
    ] {
        assert_eq!(
            passed(&mut watch, &[&frame.repeat(5000)], Duration::ZERO),
            None
        );
    }
}

#[test]
fn a_bucket_fills_with_time() {
    let ping = frame(PING, 0, 0, &[0; 8]);
    let mut watch = begun();
    assert_eq!(
        passed(&mut watch, &[&ping.repeat(200)], Duration::ZERO),
        None
    );
    // 100 a second for a minute.
    for tick in 1..600_u32 {
        let now = Duration::from_millis(100) * tick;
        assert_eq!(
            passed(&mut watch, &[&ping.repeat(10)], now),
            None,
            "tick {tick}"
        );
    }
    let later = Duration::from_secs(3600);
    assert_eq!(passed(&mut watch, &[&ping.repeat(200)], later), None);
    assert!(passed(&mut watch, &[&ping.repeat(2)], later).is_some());
}

#[test]
fn who_is_served_may_acknowledge() {
    let update = frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0x40, 0]);
    let mut watch = begun();
    // Two for every 16 KiB, for 64 MiB.
    for _ in 0..4096 {
        watch.sent(16 << 10);
        assert_eq!(
            passed(&mut watch, &[&update.repeat(2)], Duration::ZERO),
            None
        );
    }
}

#[test]
fn a_block_of_fields_is_bounded() {
    let start = frame(HEADERS, 0, 1, &[]);
    let go_on = frame(CONTINUATION, 0, 1, &[]);
    let flood = [start.clone(), go_on.repeat(100)].concat();
    assert_eq!(
        passed(&mut begun(), &[&flood], Duration::ZERO),
        Some(65 * 9)
    );
    let large = frame(CONTINUATION, 0, 1, &[0; 16_384]);
    let flood = [start.clone(), large.repeat(5)].concat();
    assert_eq!(
        passed(&mut begun(), &[&flood], Duration::ZERO),
        Some(9 + 5 * large.len())
    );
    let many = [start, go_on.repeat(63)].concat().repeat(100);
    assert_eq!(passed(&mut begun(), &[&many], Duration::ZERO), None);
}

proptest! {
    #[test]
    fn the_verdict_does_not_depend_on_the_reads(
        kinds in vec((0..10_u8, 0..6_u8, 0..20_usize), 0..2500),
        split in 1..100_usize,
    ) {
        let frames = kinds.iter().map(|(kind, flags, length)| {
            frame(*kind, *flags, 1, &vec![0; *length])
        });
        let input: Vec<u8> = frames.collect::<Vec<_>>().concat();
        let pieces: Vec<_> = input.chunks(split).collect();
        let whole = passed(&mut begun(), &[&input], Duration::ZERO);
        prop_assert_eq!(whole, passed(&mut begun(), &pieces, Duration::ZERO));
    }

    #[test]
    fn no_bytes_panic(input in vec(any::<u8>(), 0..2000), split in 1..50_usize) {
        let pieces: Vec<_> = input.chunks(split).collect();
        passed(&mut Watch::default(), &pieces, Duration::ZERO);
    }
}
