//! The files that a pattern names: `*` any text, `?` any character, `[a-z]` one of these, `[^a-z]` none of these,
//! `\` the next character as it is; none of them meets a `/`.
//!
//! # Reference
//! Go's `path/filepath`, `Match` and `Glob`.

use std::path::{Path, PathBuf};

/// The most names of one folder that are looked at.
const MAX_NAMES: usize = 1_000_000;

/// The files a pattern names that are there now, sorted; the first of them, if there are more than `most`.
pub fn expand(pattern: &str, most: usize) -> Vec<PathBuf> {
    let (mut found, parts) = match pattern.strip_prefix('/') {
        Some(rest) => (vec![PathBuf::from("/")], rest),
        None => (vec![PathBuf::new()], pattern),
    };
    for part in parts.split('/').filter(|part| !part.is_empty()) {
        found = found
            .iter()
            .flat_map(|folder| entries(folder, part))
            .take(most)
            .collect();
    }
    found.retain(|path| path.is_file());
    found.sort();
    found
}

/// The folder in which a pattern's last part is looked for, if it stands in it as it is.
pub(super) fn folder(pattern: &str) -> PathBuf {
    match Path::new(pattern).parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn entries(folder: &Path, part: &str) -> Vec<PathBuf> {
    if !part.contains(['*', '?', '[', '\\']) {
        return vec![folder.join(part)];
    }
    let pattern: Vec<char> = part.chars().collect();
    let place = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let Ok(names) = std::fs::read_dir(place) else {
        return Vec::new();
    };
    let mut fitting: Vec<PathBuf> = names
        .filter_map(Result::ok)
        .take(MAX_NAMES)
        .filter(|entry| {
            let name = entry.file_name();
            name.to_str()
                .is_some_and(|name| fits(&pattern, &name.chars().collect::<Vec<_>>()))
        })
        .map(|entry| folder.join(entry.file_name()))
        .collect();
    fitting.sort();
    fitting
}

/// Whether a name fits. A star is tried again only for the last one met, so that the time is bounded by the product of
/// both lengths.
fn fits(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() || p < pattern.len() {
        if pattern.get(p) == Some(&'*') {
            retry = Some((p, n));
            p += 1;
            continue;
        }
        if let Some(next) = step(pattern, p, name.get(n)) {
            (p, n) = (next, n + 1);
            continue;
        }
        match retry {
            Some((star, at)) if at < name.len() => {
                retry = Some((star, at + 1));
                (p, n) = (star + 1, at + 1);
            }
            _ => return false,
        }
    }
    true
}

/// Where the pattern goes on after one character that fits; nowhere if it does not fit.
fn step(pattern: &[char], at: usize, c: Option<&char>) -> Option<usize> {
    let c = *c?;
    match *pattern.get(at)? {
        '?' => Some(at + 1),
        '\\' => (*pattern.get(at + 1)? == c).then_some(at + 2),
        '[' => one_of(pattern, at + 1, c),
        plain => (plain == c).then_some(at + 1),
    }
}

/// The rest of a `[...]`. One that does not end fits nothing.
fn one_of(pattern: &[char], mut at: usize, c: char) -> Option<usize> {
    let negated = pattern.get(at) == Some(&'^');
    at += usize::from(negated);
    let (mut met, mut first) = (false, true);
    loop {
        match *pattern.get(at)? {
            ']' if !first => return (met != negated).then_some(at + 1),
            _ => {
                let (low, next) = literal(pattern, at)?;
                let (high, next) = match pattern.get(next) {
                    Some('-') => literal(pattern, next + 1)?,
                    _ => (low, next),
                };
                met |= low <= c && c <= high;
                at = next;
            }
        }
        first = false;
    }
}

fn literal(pattern: &[char], at: usize) -> Option<(char, usize)> {
    match *pattern.get(at)? {
        '\\' => Some((*pattern.get(at + 1)?, at + 2)),
        plain => Some((plain, at + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_as_in_go() {
        for (pattern, name, fit) in [
            ("*.json", "a.json", true),
            ("*.json", "a.yml", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "ac", false),
            ("x", "x", true),
            ("x", "xy", false),
            ("*", "", true),
            ("?", "", false),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[a-c]x", "dx", false),
            ("[^a-c]x", "dx", true),
            ("[^a-c]x", "ax", false),
            ("[a", "a", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("*.*", "ü.json", true),
            (
                "a*a*a*a*a*a*b",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                false,
            ),
        ] {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            assert_eq!(fits(&chars(pattern), &chars(name)), fit, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_meet_files_in_several_folders() {
        let root = tempfile::tempdir().unwrap();
        for path in ["a/x.json", "b/x.json", "b/y.yml", "c1/z.json"] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::fs::create_dir(root.path().join("b/folder.json")).unwrap();
        let found = |pattern: &str| {
            let pattern = root.path().join(pattern).display().to_string();
            expand(&pattern, 100)
                .iter()
                .map(|path| path.strip_prefix(root.path()).unwrap().display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(found("?/*.json"), ["a/x.json", "b/x.json"]);
        assert_eq!(found("b/*"), ["b/x.json", "b/y.yml"]);
        assert_eq!(found("[bc]*/[x-z].json"), ["b/x.json", "c1/z.json"]);
        assert_eq!(found("a/x.json"), ["a/x.json"]);
        assert!(found("a/none.json").is_empty() && found("none/*.json").is_empty());
    }
}
