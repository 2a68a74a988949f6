//! Declares a set of metrics: a field, its kind, its first value and its help.

/// Makes the struct, its default and its registration.
macro_rules! metric_set {
    (
        $(#[$set_doc:meta])* $set:ident;
        $([$($(#[$nested_doc:meta])* $nested:ident: $nested_set:ty;)*])?
        $($(#[$doc:meta])* $name:ident: $kind:ty = $new:expr, $help:literal;)*
    ) => {
        $(#[$set_doc])*
        #[derive(Clone, Debug)]
        pub struct $set {
            $($($(#[$nested_doc])* pub $nested: $nested_set,)*)?
            $($(#[$doc])* #[doc = $help] pub $name: $kind,)*
        }

        impl Default for $set {
            fn default() -> Self {
                Self { $($($nested: Default::default(),)*)? $($name: $new,)* }
            }
        }

        impl $set {
            pub(super) fn register(&self, registry: &mut Registry) {
                $($(let nested = registry.sub_registry_with_prefix(stringify!($nested));
                self.$nested.register(nested);)*)?
                $(registry.register(
                    stringify!($name).trim_end_matches("_total"), $help, self.$name.clone());)*
            }
        }
    };
}

pub(super) use metric_set;
