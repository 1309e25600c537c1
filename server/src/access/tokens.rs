//! Bearer tokens from files: one a line.

use super::role::Role;
use ring::hmac;
use std::fmt;

/// Shorter ones could be guessed.
const MIN_CHARS: usize = 16;
/// Longer ones are no tokens.
const MAX_CHARS: usize = 4096;
/// Every one is compared at every request.
const MAX_TOKENS: usize = 64;

/// Tokens by role, kept as their keyed hashes alone.
#[derive(Clone, Default)]
pub(super) struct Tokens(Vec<(Role, hmac::Tag)>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

impl Tokens {
    /// Adds those of a file's text. Empty lines and those that begin with `#` are passed over.
    ///
    /// # Errors
    /// What is wrong and in which line, without the token.
    pub(super) fn add(&mut self, role: Role, text: &str, key: &hmac::Key) -> Result<(), (usize, String)> {
        let before = self.0.len();
        for (i, line) in text.lines().enumerate() {
            let token = line.trim();
            if token.is_empty() || token.starts_with('#') {
                continue;
            }
            let fail = |why: String| Err((i + 1, why));
            if token.len() < MIN_CHARS {
                return fail(format!("a token has at least {MIN_CHARS} characters"));
            }
            if token.len() > MAX_CHARS {
                return fail(format!("a token has at most {MAX_CHARS} characters"));
            }
            if !token.bytes().all(|b| b.is_ascii_graphic()) {
                return fail("a token is of letters, digits and signs of ASCII, without spaces".to_owned());
            }
            if self.0.len() - before >= MAX_TOKENS {
                return fail(format!("a file holds at most {MAX_TOKENS} tokens"));
            }
            self.0.push((role, hmac::sign(key, token.as_bytes())));
        }
        if self.0.len() == before {
            return Err((1, "the file holds no token".to_owned()));
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The highest role of a token. Every known one is compared, each in constant time, whether one has fitted or not.
    pub(super) fn role(&self, token: &[u8], key: &hmac::Key) -> Option<Role> {
        let tag = hmac::sign(key, token);
        self.0
            .iter()
            .filter(|(_, known)| subtle::ConstantTimeEq::ct_eq(known.as_ref(), tag.as_ref()).into())
            .map(|(role, _)| *role)
            .max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[7; 32])
    }

    #[test]
    fn a_token_has_the_highest_role_of_its_files() {
        let mut tokens = Tokens::default();
        let read = "# of dashboards\n0123456789abcdef\n\n  both-both-both-both \n";
        tokens.add(Role::Read, read, &key()).unwrap();
        tokens
            .add(Role::Write, "both-both-both-both\r\nfedcba9876543210", &key())
            .unwrap();
        for (token, role) in [
            ("0123456789abcdef", Some(Role::Read)),
            ("both-both-both-both", Some(Role::Write)),
            ("fedcba9876543210", Some(Role::Write)),
            ("0123456789abcde", None),
            ("# of dashboards", None),
            ("", None),
        ] {
            assert_eq!(tokens.role(token.as_bytes(), &key()), role, "{token}");
        }
        assert_eq!(format!("{tokens:?}"), "Tokens(4)");
    }

    #[test]
    fn bad_tokens_are_refused_by_line_and_not_told() {
        let many = "0123456789abcdef\n".repeat(65);
        for (text, line, why) in [
            ("", 1, "holds no token"),
            ("# nothing\n\n", 1, "holds no token"),
            ("0123456789abcdef\nshort\n", 2, "at least 16"),
            ("0123456789 abcdef", 1, "without spaces"),
            ("0123456789äbcdef", 1, "without spaces"),
            (many.as_str(), 65, "at most 64"),
        ] {
            let (at, told) = Tokens::default().add(Role::Read, text, &key()).unwrap_err();
            assert_eq!(at, line, "{told}");
            assert!(told.contains(why) && !told.contains("short"), "{told}");
        }
    }
}
