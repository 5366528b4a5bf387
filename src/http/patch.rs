//! The changes that a PATCH of a queue may ask for: a small part of JSON Patch, one key deep.

use serde_json::Value;

use super::error::ApiError;
use super::metadata::QueueMetadata;

/// The only format of a PATCH.
pub(super) const MEDIA_TYPE: &str = "application/openstack-messaging-v2.0-json-patch";

/// One change of one key.
#[derive(Debug, Clone, PartialEq)]
enum Change {
    /// Set, whether there or not.
    Add(String, Value),
    /// Set what is there.
    Replace(String, Value),
    /// Drop what is there.
    Remove(String),
}

/// A list of changes, to be made in order or not at all.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Patch(Vec<Change>);

impl Patch {
    pub(super) fn parse(document: Value) -> Result<Self, ApiError> {
        match document {
            Value::Array(items) => {
                items.into_iter().map(change).collect::<Result<_, _>>().map(Self)
            }
            _ => Err(ApiError::body("A patch must be an array of operations.")),
        }
    }

    pub(super) fn apply(&self, metadata: &mut QueueMetadata) -> Result<(), ApiError> {
        let fields = &mut metadata.0;
        for change in &self.0 {
            match change {
                Change::Add(key, value) => {
                    fields.insert(key.clone(), value.clone());
                }
                Change::Replace(key, value) => {
                    if !fields.contains_key(key) && !QueueMetadata::is_reserved(key) {
                        return Err(no_such_key(key));
                    }
                    fields.insert(key.clone(), value.clone());
                }
                Change::Remove(key) => {
                    if fields.shift_remove(key).is_none() && !QueueMetadata::is_reserved(key) {
                        return Err(no_such_key(key));
                    }
                }
            }
        }
        Ok(())
    }
}

fn no_such_key(key: &str) -> ApiError {
    ApiError::conflict(format!("The queue's metadata have no key {key:?}."))
}

fn change(item: Value) -> Result<Change, ApiError> {
    let Value::Object(mut item) = item else {
        return Err(ApiError::body("Each operation of a patch must be an object."));
    };
    let text = |field: &str| {
        item.get(field)
            .and_then(Value::as_str)
            .ok_or_else(|| ApiError::body(format!("Each operation of a patch needs a {field:?}.")))
    };
    let key = key(text("path")?)?;
    let op = text("op")?.to_owned();
    let mut value =
        || item.remove("value").ok_or_else(|| ApiError::body(format!("{op:?} needs a \"value\".")));
    match op.as_str() {
        "add" => Ok(Change::Add(key, value()?)),
        "replace" => Ok(Change::Replace(key, value()?)),
        "remove" => Ok(Change::Remove(key)),
        _ => Err(ApiError::body(format!("{op:?} must be one of add, replace and remove."))),
    }
}

/// The key in a pointer `/metadata/<key>`.
fn key(path: &str) -> Result<String, ApiError> {
    let wrong = || ApiError::body(format!("The path {path:?} must be /metadata/<key>."));
    let key = path.strip_prefix("/metadata/").ok_or_else(wrong)?;
    if key.is_empty() || key.contains('/') {
        return Err(wrong());
    }
    let mut unescaped = String::with_capacity(key.len());
    let mut chars = key.chars();
    while let Some(char) = chars.next() {
        unescaped.push(match char {
            '~' => match chars.next() {
                Some('0') => '~',
                Some('1') => '/',
                _ => return Err(wrong()),
            },
            other => other,
        });
    }
    Ok(unescaped)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(metadata: Value, patch: Value) -> Result<Value, ApiError> {
        let mut metadata = QueueMetadata(metadata.as_object().unwrap().clone());
        Patch::parse(patch)?.apply(&mut metadata)?;
        Ok(Value::Object(metadata.0))
    }

    #[test]
    fn changes_are_made_in_order() {
        let patch = json!([
            {"op": "add", "path": "/metadata/a", "value": 1},
            {"op": "replace", "path": "/metadata/a", "value": 2},
            {"op": "add", "path": "/metadata/b~1c~0d", "value": null},
            {"op": "remove", "path": "/metadata/old"},
        ]);
        let metadata = patched(json!({"old": 0}), patch).unwrap();
        assert_eq!(metadata, json!({"a": 2, "b/c~d": null}));
    }

    #[test]
    fn settings_can_be_replaced_and_removed_without_having_been_set() {
        let patch = json!([
            {"op": "replace", "path": "/metadata/_default_message_ttl", "value": 60},
            {"op": "remove", "path": "/metadata/_max_claim_count"},
        ]);
        assert_eq!(patched(json!({}), patch).unwrap(), json!({"_default_message_ttl": 60}));
        for op in ["replace", "remove"] {
            let patch = json!([{"op": op, "path": "/metadata/x", "value": 1}]);
            assert!(patched(json!({}), patch).is_err());
        }
    }

    #[test]
    fn other_operations_and_pointers_are_refused() {
        for wrong in [
            json!({"op": "add", "path": "/metadata/a", "value": 1}),
            json!([1]),
            json!([{"op": "add", "path": "/metadata/a"}]),
            json!([{"op": "test", "path": "/metadata/a", "value": 1}]),
            json!([{"path": "/metadata/a", "value": 1}]),
            json!([{"op": "add", "path": "metadata/a", "value": 1}]),
            json!([{"op": "add", "path": "/metadata", "value": 1}]),
            json!([{"op": "add", "path": "/metadata/", "value": 1}]),
            json!([{"op": "add", "path": "/metadata/a/", "value": 1}]),
            json!([{"op": "add", "path": "/metadata/a~2", "value": 1}]),
            json!([{"op": "add", "path": "/metadata/a~", "value": 1}]),
            json!([{"op": "remove", "path": "/other/a"}]),
            json!([{"op": 1, "path": "/metadata/a", "value": 1}]),
        ] {
            assert!(Patch::parse(wrong.clone()).is_err(), "{wrong}");
        }
        assert_eq!(Patch::parse(json!([])).unwrap(), Patch(Vec::new()));
    }
}
