//! Custom resources decoded one by one: one that cannot be decoded must not
//! take the list that it is in along.

use std::borrow::Cow;

use kube::{Resource, api::ObjectMeta};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::Value;

/// An object, or, where it cannot be decoded, its metadata.
///
/// As kube's `DeserializeGuard`, which copies every object twice on its way,
/// and without `managedFields`: they are the larger half of an object and
/// nobody asks for them.
#[derive(Clone, Debug)]
pub enum Lenient<K> {
    /// The object.
    Whole(K),
    /// What is known of one that is not as this version knows it.
    Undecodable(Box<ObjectMeta>),
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        // Why it cannot be decoded is not kept: the words quote the object.
        if let Ok(object) = K::deserialize(&value) {
            return Ok(Self::Whole(object));
        }
        let metadata = value.get("metadata").unwrap_or(&Value::Null);
        ObjectMeta::deserialize(metadata).map(|meta| Self::Undecodable(Box::new(meta))).map_err(D::Error::custom)
    }
}

impl<K: Resource> Resource for Lenient<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Whole(object) => object.meta(),
            Self::Undecodable(meta) => meta,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Whole(object) => object.meta_mut(),
            Self::Undecodable(meta) => meta,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lenient;
    use crate::api::BotSecret;

    #[test]
    fn an_object_that_cannot_be_decoded_leaves_its_name_and_the_others() {
        let list = r#"[
            {"metadata": {"name": "good", "managedFields": [{"manager": "me"}]}, "spec": {"serviceAccountName": "bot"}},
            {"metadata": {"name": "newer"}, "spec": {"serviceAccountName": {"name": "bot"}}}
        ]"#;
        let decoded: Vec<Lenient<BotSecret>> = serde_json::from_str(list).expect("a list");
        let [Lenient::Whole(good), Lenient::Undecodable(newer)] = decoded.as_slice() else {
            panic!("{decoded:?}");
        };
        assert_eq!((good.metadata.name.as_deref(), newer.name.as_deref()), (Some("good"), Some("newer")));
        assert_eq!(good.metadata.managed_fields, None);
    }
}
