//! How nodes are reached that were added to the pool later: by the address that the pool's register
//! names, and with the credentials and certificates of the URLs that this process was given.

use std::sync::Arc;

use crate::node::Node;
use crate::node::redis::RedisNode;

/// The kinds of addresses that share credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Plain,
    Tls,
    Unix,
}

impl Scheme {
    fn of(scheme: &str) -> Option<Self> {
        match scheme {
            "redis" | "valkey" => Some(Self::Plain),
            "rediss" | "valkeys" => Some(Self::Tls),
            "unix" | "redis+unix" | "valkey+unix" => Some(Self::Unix),
            _ => None,
        }
    }
}

/// A node at an address without credentials, reached like the first of `given` of the same scheme.
pub(crate) fn dial(name: &str, given: &[String]) -> Option<Arc<dyn Node>> {
    let url = with_credentials(name, given)?;
    match RedisNode::connect(&url) {
        Ok(node) => Some(Arc::new(node)),
        Err(error) => {
            tracing::warn!(node = name, %error, "the node's address cannot be used");
            None
        }
    }
}

fn with_credentials(name: &str, given: &[String]) -> Option<String> {
    let mut url = redis::parse_redis_url(name)?;
    let scheme = Scheme::of(url.scheme())?;
    let like = given
        .iter()
        .filter_map(|url| redis::parse_redis_url(url))
        .find(|other| Scheme::of(other.scheme()) == Some(scheme))?;
    if scheme != Scheme::Unix {
        url.set_username(like.username()).ok()?;
        url.set_password(like.password()).ok()?;
        url.set_fragment(like.fragment());
    }
    let kept = ["ca", "user", "pass"];
    let pairs = like.query_pairs().filter(|(key, _)| kept.contains(&key.as_ref()));
    let pairs: Vec<(String, String)> =
        pairs.map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
    if !pairs.is_empty() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    Some(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(urls: &[&str]) -> Vec<String> {
        urls.iter().map(|&url| url.to_owned()).collect()
    }

    #[test]
    fn a_new_node_is_reached_like_the_ones_that_were_given() {
        let urls =
            given(&["redis://u:p@one:1/2", "rediss://v:q@two:2/?ca=/c.pem", "unix:///a?pass=x"]);
        let reached = |name| with_credentials(name, &urls);
        assert_eq!(reached("redis://new:7/3").unwrap(), "redis://u:p@new:7/3");
        assert_eq!(reached("rediss://new:7").unwrap(), "rediss://v:q@new:7?ca=%2Fc.pem");
        assert_eq!(reached("unix:///b?db=2").unwrap(), "unix:///b?db=2&pass=x");
    }

    #[test]
    fn nothing_is_guessed_of_a_scheme_that_was_not_given() {
        assert_eq!(with_credentials("rediss://new:7", &given(&["redis://u:p@one"])), None);
        assert_eq!(with_credentials("memory-4", &given(&["redis://one"])), None);
    }
}
