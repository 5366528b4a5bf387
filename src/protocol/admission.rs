//! Whether a node is what the pool takes it for (Q9).

use super::view::PoolView;
use crate::error::{Error, ErrorKind};
use crate::id::{NodeId, PoolId};
use crate::node::Identity;

/// What a node that said who it is means to the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// This node, in its present life.
    Member(NodeId),
    /// This node, but it may have forgotten something: it needs a new life.
    Stranger(NodeId),
    /// This node, and somebody has decided its next life but it has not begun yet.
    Awaited(NodeId),
    /// An empty node that the pool does not know.
    New,
    /// In a life that the view does not know yet.
    Ahead(NodeId),
    /// Taken out of the pool.
    Removed(NodeId),
    /// Another pool's.
    Foreign(PoolId),
}

/// Judges a node by what it says of itself; one without a cookie by its address.
pub(crate) fn standing(view: &PoolView, name: &str, identity: &Identity) -> Standing {
    let node = match &identity.cookie {
        Some((held, _)) if held.pool != view.pool => return Standing::Foreign(held.pool),
        Some((held, _)) => held.node,
        None => match (view.named(name), view.removed.get(name)) {
            (Some(node), _) => node,
            // Settings that still name it do not bring it back.
            (None, Some(node)) => return Standing::Removed(*node),
            (None, None) => return Standing::New,
        },
    };
    let Some(entry) = view.nodes.get(&node) else {
        return if node.0 < view.next_node {
            Standing::Removed(node)
        } else {
            Standing::Ahead(node)
        };
    };
    if let Some((held, run_id)) = &identity.cookie {
        if held.incarnation > entry.incarnation {
            return Standing::Ahead(node);
        }
        let same_run = *run_id == identity.run_id || identity.durable;
        if held.incarnation == entry.incarnation && same_run {
            return Standing::Member(node);
        }
        if held.incarnation == entry.incarnation {
            return Standing::Stranger(node);
        }
    }
    if entry.run_id == identity.run_id { Standing::Awaited(node) } else { Standing::Stranger(node) }
}

/// Refuses a node with which acknowledged messages could be lost.
pub(crate) fn check_settings(name: &str, identity: &Identity) -> Result<(), Error> {
    let Some(bad) = identity.unsafe_settings.first() else { return Ok(()) };
    Err(Error::new(
        ErrorKind::UnsafeNode,
        format!("node {name} must not be used: {} is {:?}; {}", bad.setting, bad.found, bad.mend),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Cookie, Incarnation};
    use crate::node::UnsafeSetting;

    fn identity(run_id: &str, held: Option<(u64, u16, u32, &str)>) -> Identity {
        let cookie = held.map(|(pool, node, incarnation, run_id)| {
            let (pool, node) = (PoolId(pool), NodeId(node));
            (Cookie { pool, node, incarnation: Incarnation(incarnation) }, run_id.to_owned())
        });
        Identity {
            run_id: run_id.into(),
            cookie,
            durable: false,
            unsafe_settings: Vec::new(),
            keeper: None,
            memory: (0, 0),
            now_ms: 0,
            version: String::new(),
        }
    }

    #[test]
    fn a_node_is_a_member_only_in_its_present_life() {
        let mut view = PoolView::first(PoolId(9), "a".into(), "run".into(), 3);
        let judge = |view: &PoolView, name: &str, run: &str, held| {
            standing(view, name, &identity(run, held))
        };
        let one = NodeId(1);
        assert_eq!(judge(&view, "a", "run", Some((9, 1, 1, "run"))), Standing::Member(one));
        assert_eq!(judge(&view, "moved", "run", Some((9, 1, 1, "run"))), Standing::Member(one));
        assert_eq!(judge(&view, "a", "next", Some((9, 1, 1, "run"))), Standing::Stranger(one));
        assert_eq!(judge(&view, "a", "next", None), Standing::Stranger(one));
        assert_eq!(judge(&view, "a", "run", None), Standing::Awaited(one));
        assert_eq!(judge(&view, "b", "run", None), Standing::New);
        assert_eq!(judge(&view, "a", "run", Some((8, 1, 1, "run"))), Standing::Foreign(PoolId(8)));
        assert_eq!(judge(&view, "a", "run", Some((9, 1, 2, "run"))), Standing::Ahead(one));
        assert_eq!(judge(&view, "a", "run", Some((9, 7, 1, "run"))), Standing::Ahead(NodeId(7)));
        view.remove(one);
        assert_eq!(judge(&view, "a", "run", Some((9, 1, 1, "run"))), Standing::Removed(one));
        assert_eq!(judge(&view, "a", "next", None), Standing::Removed(one), "emptied since");
    }

    #[test]
    fn a_durable_node_keeps_its_life_across_a_restart() {
        let view = PoolView::first(PoolId(9), "a".into(), "run".into(), 3);
        let durable = Identity { durable: true, ..identity("next", Some((9, 1, 1, "run"))) };
        assert_eq!(standing(&view, "a", &durable), Standing::Member(NodeId(1)));
    }

    #[test]
    fn an_unsafe_setting_is_told_with_what_mends_it() {
        let mut unsafe_node = identity("run", None);
        unsafe_node.unsafe_settings.push(UnsafeSetting {
            setting: "maxmemory-policy".into(),
            found: "allkeys-lru".into(),
            mend: "CONFIG SET maxmemory-policy noeviction".into(),
        });
        let error = check_settings("n1", &unsafe_node).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsafeNode);
        for part in
            ["n1", "maxmemory-policy", "allkeys-lru", "CONFIG SET maxmemory-policy noeviction"]
        {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
