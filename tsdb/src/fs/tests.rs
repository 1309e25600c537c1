//! All three file systems through one set of checks; then what only the fakes do.

use super::*;
use std::path::PathBuf;

fn check_basics(fs: &dyn Fs, root: &Path) {
    let dir = root.join("a/b");
    fs.create_dir_all(&dir).unwrap();
    let path = dir.join("x");
    let mut file = fs.create(&path).unwrap();
    file.write_all(b"hello ").unwrap();
    file.write_all(b"world").unwrap();
    file.sync().unwrap();
    assert_eq!(file.len(), 11);
    file.truncate(5).unwrap();
    file.write_all(b"!").unwrap();
    drop(file);
    let mut file = fs.append(&path).unwrap();
    assert_eq!(file.len(), 6);
    file.write_all(b"?").unwrap();
    file.forget_cached();

    let read = fs.open(&path).unwrap();
    let mut buf = [0; 4];
    read.read_exact_at(3, &mut buf).unwrap();
    assert_eq!(&buf, b"lo!?");
    assert_eq!(read.len(), 7);
    let error = read.read_exact_at(4, &mut buf).unwrap_err();
    assert!(matches!(error, Error::Io { action: "read", path: p, .. } if p == path));
    assert_eq!(&*fs.map(&path).unwrap(), b"hello!?");
    assert_eq!(fs.len(&path).unwrap(), 7);

    fs.hard_link(&path, &dir.join("y")).unwrap();
    fs.rename(&dir.join("y"), &dir.join("z")).unwrap();
    fs.create_dir_all(&dir.join("sub")).unwrap();
    fs.sync_dir(&dir).unwrap();
    let names: Vec<_> = fs
        .read_dir(&dir)
        .unwrap()
        .into_iter()
        .map(|e| (e.name, e.kind))
        .collect();
    assert_eq!(
        names,
        [
            ("sub".into(), EntryKind::Dir),
            ("x".into(), EntryKind::File),
            ("z".into(), EntryKind::File)
        ]
    );
    fs.remove_file(&path).unwrap();
    assert!(!fs.exists(&path) && fs.exists(&dir.join("z")));
    assert_eq!(&*fs.map(&dir.join("z")).unwrap(), b"hello!?");
    assert!(fs.open(&path).unwrap_err().is_not_found());
    assert_eq!(&*fs.map(&empty(fs, &dir)).unwrap(), b"");

    let lock = fs.lock(&root.join("lock"), "pid 7").unwrap();
    match fs.lock(&root.join("lock"), "pid 8").unwrap_err() {
        Error::Locked { holder, .. } => assert_eq!(holder, "pid 7"),
        other => panic!("{other}"),
    }
    drop(lock);
    drop(fs.lock(&root.join("lock"), "pid 9").unwrap());
    fs.rename(&dir, &root.join("c")).unwrap();
    assert!(fs.exists(&root.join("c/z")));
    fs.remove_dir_all(&root.join("c")).unwrap();
    assert!(!fs.exists(&root.join("c")));
}

fn empty(fs: &dyn Fs, dir: &Path) -> PathBuf {
    let path = dir.join("empty");
    fs.create(&path).unwrap();
    path
}

#[test]
fn all_file_systems_agree() {
    let dir = tempfile::tempdir().unwrap();
    check_basics(&RealFs::new(), dir.path());
    check_basics(&MemoryFs::new(), Path::new("/data"));
    check_basics(&FaultFs::new(MemoryFs::new()), Path::new("data"));
}

fn put(fs: &dyn Fs, path: &str, bytes: &[u8]) -> Box<dyn WriteFile> {
    let mut file = fs.create(Path::new(path)).unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn a_crash_forgets_what_was_not_synced() {
    let fs = MemoryFs::new();
    fs.create_dir_all(Path::new("d")).unwrap();
    fs.sync_dir(Path::new("")).unwrap();
    put(&fs, "d/kept", b"abc").sync().unwrap();
    let mut grown = put(&fs, "d/grown", b"abc");
    grown.sync().unwrap();
    grown.write_all(b"def").unwrap();
    put(&fs, "d/hollow", b"abc");
    fs.sync_dir(Path::new("d")).unwrap();
    put(&fs, "d/nameless", b"abc").sync().unwrap();
    fs.rename(Path::new("d/kept"), Path::new("d/renamed")).unwrap();
    let lock = fs.lock(Path::new("d/lock"), "").unwrap();
    fs.crash();

    assert_eq!(
        fs.read(Path::new("d/kept")).unwrap(),
        b"abc",
        "the rename was not synced"
    );
    assert_eq!(fs.read(Path::new("d/grown")).unwrap(), b"abc");
    assert_eq!(fs.read(Path::new("d/hollow")).unwrap(), b"");
    assert!(!fs.exists(Path::new("d/nameless")) && !fs.exists(Path::new("d/renamed")));
    assert!(grown.write_all(b"x").is_err(), "handles die with the process");
    let again = fs.lock(Path::new("d/lock"), "").unwrap();
    drop(lock);
    assert!(
        fs.lock(Path::new("d/lock"), "").is_err(),
        "an old guard frees no new lock"
    );
    drop(again);
}

#[test]
fn a_renamed_folder_keeps_its_content_through_a_crash() {
    let fs = MemoryFs::new();
    fs.create_dir_all(Path::new("b.tmp")).unwrap();
    put(&fs, "b.tmp/data", b"abc").sync().unwrap();
    fs.sync_dir(Path::new("b.tmp")).unwrap();
    fs.rename(Path::new("b.tmp"), Path::new("b")).unwrap();
    fs.sync_dir(Path::new("")).unwrap();
    fs.crash();
    assert_eq!(fs.read(Path::new("b/data")).unwrap(), b"abc");
    assert!(!fs.exists(Path::new("b.tmp")));
}

#[test]
fn the_chosen_change_fails_as_asked() {
    let fs = FaultFs::new(MemoryFs::new());
    let mut file = put(&fs, "x", b"abcd");
    fs.fail_at(fs.changes(), Fault::Error);
    assert!(file.write_all(b"efgh").is_err());
    fs.fail_at(fs.changes(), Fault::ShortWrite);
    assert!(file.write_all(b"ijkl").is_err());
    file.write_all(b"mn").unwrap();
    assert_eq!(fs.disk().read(Path::new("x")).unwrap(), b"abcdijmn");
    fs.fail_at(fs.changes() + 1, Fault::Halt);
    file.write_all(b"o").unwrap();
    assert!(file.write_all(b"pq").is_err());
    assert!(file.sync().is_err() && fs.sync_dir(Path::new("")).is_err());
    fs.revive();
    file.sync().unwrap();
    assert_eq!(fs.disk().read(Path::new("x")).unwrap(), b"abcdijmnop");
}

#[test]
fn a_full_disk_takes_what_fits_and_heals() {
    let fs = FaultFs::new(MemoryFs::new());
    let mut file = put(&fs, "x", b"");
    fs.set_room(Some(3));
    file.write_all(b"ab").unwrap();
    let error = file.write_all(b"cd").unwrap_err();
    assert!(error.is_disk_full());
    file.truncate(2).unwrap();
    fs.set_room(None);
    file.write_all(b"ef").unwrap();
    assert_eq!(fs.disk().read(Path::new("x")).unwrap(), b"abef");
}

#[test]
fn what_is_refused_fails_until_further_notice() {
    let fs = FaultFs::new(MemoryFs::new());
    let mut file = put(&fs, "x", b"ab");
    let read = fs.open(Path::new("x")).unwrap();
    let refuse = |actions, path: &str| {
        fs.refuse(Some(Refusal {
            actions,
            path: path.into(),
            errno: 30,
        }));
    };
    refuse(&[], "");
    for _ in 0..2 {
        let error = file.write_all(b"c").unwrap_err();
        assert!(matches!(&error, Error::Io { action: "write", source, .. }
            if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem));
        assert!(fs.create(Path::new("y")).is_err() && fs.sync_dir(Path::new("")).is_err());
    }
    let mut buf = [0; 2];
    read.read_exact_at(0, &mut buf).unwrap();
    refuse(&["read", "map", "list"], "x");
    file.write_all(b"c").unwrap();
    assert!(read.read_exact_at(0, &mut buf).is_err() && fs.map(Path::new("x")).is_err());
    assert!(fs.read_dir(Path::new("")).is_ok());
    fs.refuse(None);
    assert_eq!(&*fs.map(Path::new("x")).unwrap(), b"abc");
}
