//! How formats and schemes of names are written in the configuration.

use crate::naming::{EscapingScheme, NameScheme};
use crate::parse::ScrapeProtocol;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text enum of the configuration: its words, and what upstream says about others.
macro_rules! words {
    ($name:ident, $all:expr, $word:expr, $unknown:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                let word: fn(Self) -> &'static str = $word;
                to.serialize_str(word(*self))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                let word: fn(Self) -> &'static str = $word;
                let unknown: fn(&str) -> String = $unknown;
                $all.into_iter()
                    .find(|known| word(*known) == text)
                    .ok_or_else(|| serde::de::Error::custom(unknown(&text)))
            }
        }
    };
}

words!(ScrapeProtocol, ScrapeProtocol::ALL, ScrapeProtocol::as_str, |text| {
    let known = ScrapeProtocol::ALL.map(ScrapeProtocol::as_str).join(" ");
    format!("unknown scrape protocol {text}, supported: [{known}]")
});

words!(
    NameScheme,
    [NameScheme::Utf8, NameScheme::Legacy],
    |scheme| match scheme {
        NameScheme::Utf8 => "utf8",
        NameScheme::Legacy => "legacy",
    },
    |text| format!("unrecognized ValidationScheme: {text:?}, must be either 'legacy' or 'utf8'")
);

words!(
    EscapingScheme,
    [
        EscapingScheme::AllowUtf8,
        EscapingScheme::Underscores,
        EscapingScheme::Dots,
        EscapingScheme::Values
    ],
    EscapingScheme::as_str,
    |text| format!(
        "unknown name escaping method specified, must be one of 'allow-utf-8', 'underscores', 'dots', or 'values', \
         got {text:?}"
    )
);
