//! Enums whose variants have names in SQL: the names are said once, and all else follows from them.

use std::fmt;

/// A name that there is not, where one of a few is expected.
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

    /// The names that there are.
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

/// Gives an enum of units its names: `named!(Metric, "distance_metric", { L2 = "l2" | "euclidean", ... })`. The first name of a
/// variant is the one it is shown by (`Display`, serde, [`UnknownName`]), any of them in any case is read (`FromStr`, serde).
macro_rules! named {
    ($type:ident, $what:literal, { $($variant:ident = $name:literal $(| $other:literal)*),+ $(,)? }) => {
        impl $type {
            /// All of them, in their order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// Their names in SQL, in the same order.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// Its name in SQL.
            pub fn name(self) -> &'static str {
                self.names()[0]
            }

            /// Its name, and the others that are read as it.
            fn names(self) -> &'static [&'static str] {
                match self {
                    $(Self::$variant => &[$name $(, $other)*],)+
                }
            }

            /// The one of that name (any case).
            pub(crate) fn from_name(name: &str) -> Option<Self> {
                let is = |of: &Self| of.names().iter().any(|known| name.eq_ignore_ascii_case(known));
                Self::ALL.iter().copied().find(is)
            }
        }

        impl ::std::fmt::Display for $type {
            /// Its name in SQL.
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl ::std::str::FromStr for $type {
            type Err = $crate::UnknownName;

            /// The one of that name in SQL (any case).
            fn from_str(name: &str) -> ::std::result::Result<Self, $crate::UnknownName> {
                Self::from_name(name).ok_or_else(|| $crate::UnknownName::new($what, Self::NAMES, name))
            }
        }

        impl ::serde::Serialize for $type {
            /// As its name in SQL.
            fn serialize<S: ::serde::Serializer>(&self, to: S) -> ::std::result::Result<S::Ok, S::Error> {
                to.serialize_str(self.name())
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $type {
            /// From its name in SQL.
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
