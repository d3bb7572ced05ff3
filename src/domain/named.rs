//! Enums whose variants have names.

/// Defines an enum with a name for each variant: `name()`, and `ALL` in the order of the definition.
macro_rules! named {
    ($(#[$meta:meta])* $vis:vis enum $Enum:ident { $($(#[$doc:meta])* $variant:ident => $name:literal,)+ }) => {
        $(#[$meta])*
        $vis enum $Enum {
            $($(#[$doc])* $variant,)+
        }

        impl $Enum {
            /// All variants, in order.
            #[allow(dead_code, reason = "not every enum is listed or named")]
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// Returns the name in JSON, on screens, in metrics and log lines.
            #[allow(dead_code, reason = "not every enum is listed or named")]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

pub(crate) use named;
