//! Edits that may make an expression invalid, or not.

use super::random::Rng;

/// What is put in.
const PIECES: &[&str] = &[
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "'",
    "`",
    "=",
    "=~",
    "!=",
    "!~",
    "==",
    "<",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "@",
    " offset ",
    " bool ",
    " by (job) ",
    " without (x)",
    " on (job) ",
    " ignoring () ",
    " group_left ",
    " group_right(x) ",
    " and ",
    " or ",
    " unless ",
    " atan2 ",
    "5m",
    "1",
    "0x",
    "1e",
    "NaN",
    "inf",
    "rate",
    "sum",
    "(a)",
    "[5m]",
    "[5m:1m]",
    "[0s]",
    " @ 1 ",
    " @ start() ",
    " @ end ",
    "\\",
    "\u{fc}",
    "#",
    "\n",
    ".",
    "_",
    "$",
    "&",
    "\u{0}",
    "start",
    "end()",
    "{}",
    "a=\"b\"",
    ";",
    "1y2w",
    "-5m",
    "\\xff",
    "''",
    "__name__",
    "time()",
    "!",
    "~",
];

/// The text with one to three edits.
pub(crate) fn damaged(rng: &mut Rng, text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..rng.weighted(&[(5, 1), (2, 2), (1, 3)]) {
        edit(rng, &mut chars);
    }
    chars.into_iter().collect()
}

fn edit(rng: &mut Rng, chars: &mut Vec<char>) {
    let at = rng.below(chars.len() + 1);
    let to = (at + 1 + rng.below(6)).min(chars.len());
    match rng.below(6) {
        // A piece goes, or comes, or takes another's place.
        0 => drop(chars.splice(at..to, [])),
        1 if at < chars.len() => drop(chars.remove(at)),
        2 => drop(chars.splice(at..to, rng.pick(PIECES).chars())),
        3 if at + 1 < chars.len() => chars.swap(at, at + 1),
        4 => {
            // A piece stands twice.
            let piece: Vec<char> = chars[at..to].to_vec();
            drop(chars.splice(at..at, piece));
        }
        _ => drop(chars.splice(at..at, rng.pick(PIECES).chars())),
    }
}
