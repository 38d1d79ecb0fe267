//! Names in SQL for the variants of an enum. Each name is written once; text, parsing and serde follow from
//! it.

use std::fmt;

/// A name that is none of those accepted.
///
/// ```
/// let error = "l3".parse::<sqlite_ivf::Metric>().unwrap_err();
/// assert_eq!(error.to_string(), "distance_metric must be one of l2, cosine, ip, l1, hamming, got 'l3'");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownName {
    what: &'static str,
    accepted: &'static [&'static str],
    given: String,
}

impl UnknownName {
    pub(crate) fn new(what: &'static str, accepted: &'static [&'static str], given: &str) -> Self {
        Self { what, accepted, given: given.into() }
    }

    /// The accepted names.
    pub fn accepted(&self) -> &'static [&'static str] {
        self.accepted
    }
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, accepted, given } = self;
        write!(f, "{what} must be one of {}, got '{given}'", accepted.join(", "))
    }
}

impl std::error::Error for UnknownName {}

/// Gives the variants of an enum their names: `named!(Metric, "distance_metric", { L2 = "l2" | "euclidean",
/// ... })`. The first name of a variant is the one shown (`Display`, serde, [`UnknownName`]). Every name is
/// accepted, in any case (`FromStr`, serde).
macro_rules! named {
    ($type:ident, $what:literal, { $($variant:ident = $name:literal $(| $other:literal)*),+ $(,)? }) => {
        impl $type {
            /// All values, in the order of the enum.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// Their names in SQL, in the same order.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// The name in SQL.
            pub fn name(self) -> &'static str {
                self.names()[0]
            }

            /// The name, then the other accepted names.
            fn names(self) -> &'static [&'static str] {
                match self {
                    $(Self::$variant => &[$name $(, $other)*],)+
                }
            }

            /// The value with this name, in any case.
            pub(crate) fn from_name(name: &str) -> Option<Self> {
                let is = |of: &Self| of.names().iter().any(|known| name.eq_ignore_ascii_case(known));
                Self::ALL.iter().copied().find(is)
            }
        }

        impl ::std::fmt::Display for $type {
            /// Writes the name in SQL.
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl ::std::str::FromStr for $type {
            type Err = $crate::UnknownName;

            /// Reads a name in SQL, in any case.
            fn from_str(name: &str) -> ::std::result::Result<Self, $crate::UnknownName> {
                Self::from_name(name).ok_or_else(|| $crate::UnknownName::new($what, Self::NAMES, name))
            }
        }

        impl ::serde::Serialize for $type {
            /// Writes the name in SQL.
            fn serialize<S: ::serde::Serializer>(&self, to: S) -> ::std::result::Result<S::Ok, S::Error> {
                to.serialize_str(self.name())
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $type {
            /// Reads a name in SQL, in any case.
            fn deserialize<D: ::serde::Deserializer<'de>>(from: D) -> ::std::result::Result<Self, D::Error> {
                let name = <::std::borrow::Cow<'de, str>>::deserialize(from)?;
                name.parse().map_err(<D::Error as ::serde::de::Error>::custom)
            }
        }
    };
}
pub(crate) use named;

#[cfg(test)]
mod tests {
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Fruit {
        Apple,
        Pear,
    }
    named!(Fruit, "fruit", { Apple = "apple" | "pomme", Pear = "pear" });

    #[test]
    fn a_name_is_said_once_and_read_everywhere() {
        assert_eq!((Fruit::ALL, Fruit::NAMES), (&[Fruit::Apple, Fruit::Pear][..], &["apple", "pear"][..]));
        assert_eq!("POMME".parse(), Ok(Fruit::Apple));
        assert_eq!(
            (Fruit::Pear.to_string(), format!("{:>6}", Fruit::Pear)),
            ("pear".into(), "  pear".into())
        );
        assert_eq!(serde_json::to_string(&Fruit::ALL).unwrap(), r#"["apple","pear"]"#);
        assert_eq!(serde_json::from_str::<Fruit>(r#""Pear""#).unwrap(), Fruit::Pear);
    }

    #[test]
    fn another_name_is_an_error_that_lists_the_right_ones() {
        let error = "plum".parse::<Fruit>().unwrap_err();
        assert_eq!(error.to_string(), "fruit must be one of apple, pear, got 'plum'");
        assert_eq!(error.accepted(), Fruit::NAMES);
        let error = serde_json::from_str::<Fruit>(r#""plum""#).unwrap_err().to_string();
        assert!(error.starts_with("fruit must be one of apple, pear, got 'plum'"), "{error}");
    }
}
