use super::*;

#[test]
fn a_file_that_has_lost_its_name_is_not_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.jsonl");
    let opened = |path| std::fs::File::open(path).unwrap();
    let mut writer = Writer::open(&path, b"").unwrap();
    let former = opened(&path);
    assert!(is_at(&path, &former).unwrap());
    assert!(writer.write(Some(b""), b""));
    assert!(!is_at(&path, &former).unwrap());
    assert!(is_at(&path, &opened(&path)).unwrap());
    std::fs::remove_file(&path).unwrap();
    assert!(!is_at(&path, &former).unwrap());
}
