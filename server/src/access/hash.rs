//! Passwords as bcrypt stores them.

use std::fmt;
use subtle::ConstantTimeEq;

/// What costs more is refused: each step doubles the time, 18 takes a good part of a minute.
const MAX_COST: u32 = 18;
/// What upstream takes.
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;
/// Shorter texts cannot hold what a hash must.
const MIN_CHARS: usize = 59;
/// The characters of salt and digest.
const SALT: usize = 22;
const DIGEST: usize = 31;

/// One password's hash.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Hash {
    text: String,
    cost: u32,
    /// What can be compared; `None` if no password fits, since it is not written as bcrypt writes it.
    parts: Option<([u8; 16], [u8; 23])>,
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash(cost {}, <secret>)", self.cost)
    }
}

impl Hash {
    /// Reads `$2y$10$` and what follows, as widely as upstream: any letter for the variant, more characters than needed.
    ///
    /// # Errors
    /// What is wrong, without the text, which is a secret.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() < MIN_CHARS {
            return Err("the hash is too short to be one of bcrypt".to_owned());
        }
        let rest = text.strip_prefix('$').ok_or("a hash of bcrypt begins with '$'")?;
        let rest = rest.strip_prefix('2').ok_or("only version 2 of bcrypt is known")?;
        let rest = match rest.strip_prefix('$') {
            Some(rest) => rest,
            None => {
                let variant = rest.char_indices().nth(1).map_or(0, |(at, _)| at);
                let rest = rest.get(variant..).unwrap_or_default();
                rest.strip_prefix('$')
                    .ok_or("a '$' is missing behind the version of bcrypt")?
            }
        };
        let (cost, rest) = rest.split_once('$').ok_or("the cost of bcrypt is missing")?;
        let cost: u32 = cost.parse().map_err(|_| "the cost of bcrypt is no number".to_owned())?;
        if !COSTS.contains(&cost) {
            return Err(format!("cost {cost} is outside allowed inclusive range 4..31"));
        }
        if cost > MAX_COST {
            return Err(format!(
                "a cost of {cost} is more than the {MAX_COST} that are allowed here: every wrong password would take minutes"
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            cost,
            parts: parts(rest),
        })
    }

    /// What a name without a password is checked against, so that it takes as long as any.
    pub(super) fn nobody(cost: u32) -> Self {
        Self {
            text: String::new(),
            cost,
            parts: None,
        }
    }

    /// The hash of a password.
    #[cfg(test)]
    pub(super) fn made(cost: u32, salt: [u8; 16], password: &[u8]) -> Self {
        let ended: Vec<u8> = password.iter().copied().chain([0]).collect();
        let digest = bcrypt::bcrypt(cost, salt, &ended);
        Self {
            text: format!("made at {cost}"),
            cost,
            parts: digest[..23].try_into().ok().map(|digest| (salt, digest)),
        }
    }

    /// The base-2 logarithm of the rounds.
    pub(super) fn cost(&self) -> u32 {
        self.cost
    }

    /// As it is written; a secret.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether a password has this hash. Takes as long if not; milliseconds to seconds.
    pub(super) fn fits(&self, password: &[u8]) -> bool {
        let (salt, digest) = self.parts.unwrap_or(([0; 16], [0; 23]));
        // Bcrypt ends a password with a zero and looks at 72 bytes.
        let mut bytes: Vec<u8> = password.iter().copied().take(72).collect();
        if bytes.len() < 72 {
            bytes.push(0);
        }
        let found = bcrypt::bcrypt(self.cost, salt, &bytes);
        let equal: bool = found
            .iter()
            .take(23)
            .copied()
            .collect::<Vec<u8>>()
            .ct_eq(&digest)
            .into();
        equal && self.parts.is_some()
    }
}

/// Salt and digest, if they are written as bcrypt writes them.
fn parts(text: &str) -> Option<([u8; 16], [u8; 23])> {
    let salt = decode(text.get(..SALT)?)?;
    let digest = decode(text.get(SALT..SALT + DIGEST)?)?;
    Some((salt.try_into().ok()?, digest.try_into().ok()?))
}

/// Bcrypt's own base 64; bits that are left over do not count.
fn decode(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut held, mut bits) = (0u32, 0u32);
    for byte in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == byte)?;
        held = (held << 6 | u32::try_from(value).ok()?) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `test`, as the C library makes it.
    const KNOWN: &str = "$2b$04$vsa5td5j4zG7xJWrlZfseukyRBqvpohfA8Aeafe2zrsxNSPO5oRaG";

    #[test]
    fn what_upstream_takes_is_taken_but_for_what_takes_hours() {
        let rest = "QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";
        for good in [
            format!("$2y$10${rest}"),
            format!("$2z$10${rest}"),
            format!("$2$10${rest}"),
            format!("$2a$04${rest}XXX"),
            format!("$2b$10${}", &rest[1..]),
            format!("$2y$10${}", rest.replace("LDe", "!!!")),
        ] {
            assert!(Hash::parse(&good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("x".to_owned(), "too short"),
            (format!("$3y$10${rest}"), "version"),
            (format!("$2y$32${rest}"), "cost 32 is outside"),
            (format!("$2y$03${rest}"), "cost 3 is outside"),
            (format!("$2y$31${rest}"), "allowed here"),
            (format!("$2y$xx${rest}"), "no number"),
            (format!("02y$10${rest}"), "begins with"),
            (format!("$2yy$10${rest}"), "'$' is missing"),
        ] {
            let told = Hash::parse(&bad).unwrap_err();
            assert!(told.contains(why), "{bad}: {told}");
            assert!(!told.contains(&rest[..20]), "a secret is told: {told}");
        }
    }

    #[test]
    fn a_password_fits_its_hash_alone() {
        let hash = Hash::parse(KNOWN).unwrap();
        assert!(hash.fits(b"test"));
        for wrong in [&b""[..], b"tes", b"test\0", b"testt", &[b'x'; 100]] {
            assert!(!hash.fits(wrong));
        }
        assert!(!Hash::nobody(4).fits(b"") && !Hash::nobody(4).fits(b"test"));
    }

    #[test]
    fn debugging_tells_no_secret() {
        assert_eq!(format!("{:?}", Hash::parse(KNOWN).unwrap()), "Hash(cost 4, <secret>)");
    }
}
