//! Calls that share a connection: who is woken by an answer, and who waits for nobody else's.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use roundelay::node::redis::RedisNode;
use roundelay::node::{Appended, Node, NodeError, Op, Reply};
use tokio::time::{Instant, sleep, timeout};

use crate::redis_node::{append, at, one, written};
use crate::redis_server::RedisServer;

const PATIENCE: Duration = Duration::from_secs(10);
/// Less than what the lane's timer takes to look for an answer of which nobody was told.
const SLOW: Duration = Duration::from_millis(1_500);

type Call = BoxFuture<'static, Result<Vec<Reply>, NodeError>>;

fn probe(node: &RedisNode) -> Call {
    node.call(vec![Op::Probe { at: at() }])
}

/// How often a task was woken.
#[derive(Debug, Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    fn waker() -> (Arc<Self>, Waker) {
        let woken = Arc::<Self>::default();
        (Arc::clone(&woken), Waker::from(woken))
    }

    async fn until(&self, times: usize) {
        let start = Instant::now();
        while self.0.load(Ordering::Relaxed) < times {
            assert!(start.elapsed() < PATIENCE, "never woken");
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A call that its caller has looked at once; the server answers when it goes on.
fn asked(server: &RedisServer, node: &RedisNode, waker: &Waker) -> Call {
    server.pause();
    let mut call = probe(node);
    assert!(call.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    call
}

/// Leaves the lane's task nothing to do: calls are sent where they are made.
async fn quiet(node: &RedisNode) {
    probe(node).await.expect("an answer");
    sleep(Duration::from_millis(20)).await;
}

#[tokio::test]
async fn calls_dropped_by_their_callers_are_sent_all_the_same_and_in_order() {
    let server = RedisServer::start().await;
    let node = written(&server).await;
    for block in 2..200 {
        drop(node.call(vec![append(block, 10)]));
    }
    let last = one(&node, append(200, 10)).await.unwrap();
    assert!(matches!(last, Reply::Appended(Appended { again: false, .. })), "{last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_wakes_its_caller_once() {
    let server = RedisServer::start().await;
    let node = written(&server).await;
    quiet(&node).await;
    let (woken, waker) = Woken::waker();
    let mut call = asked(&server, &node, &waker);
    server.resume();
    woken.until(1).await;
    assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    sleep(Duration::from_millis(20)).await;
    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "it was woken by what it did itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_answer_is_left_to_another_is_woken_by_it() {
    let server = RedisServer::start().await;
    let node = written(&server).await;
    quiet(&node).await;
    let (woken, waker) = Woken::waker();
    let mut first = asked(&server, &node, &waker);
    // The lane's task waits for both from now on.
    let second = tokio::spawn(probe(&node));
    woken.until(1).await;
    assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    server.resume();
    woken.until(2).await;
    assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    assert!(second.await.expect("runs").is_ok());
}

/// Lets several tasks call; each hears of its answers, and almost never late.
async fn all_hear(node: &RedisNode) {
    for callers in [1, 2, 3, 8] {
        let calls = (0..callers).map(|_| {
            let node = node.clone();
            tokio::spawn(async move {
                let mut slow = 0;
                for _ in 0..500 {
                    let start = Instant::now();
                    let answer = timeout(PATIENCE, probe(&node)).await.expect("heard of");
                    assert!(matches!(answer.expect("an answer")[..], [Reply::Coverage(_)]));
                    slow += usize::from(start.elapsed() > SLOW);
                }
                slow
            })
        });
        let mut slow = 0;
        for call in calls.collect::<Vec<_>>() {
            slow += call.await.expect("all its calls");
        }
        assert!(slow < 2, "of {} calls {slow} were not told of their answers", 500 * callers);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_many_tasks_all_hear_of_their_answers() {
    let server = RedisServer::start().await;
    all_hear(&written(&server).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_they_do_by_tcp() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (port, url) = (port.to_string(), format!("redis://localhost:{port}"));
    let server = RedisServer::start_with(&["--port", &port]).await;
    let _written = written(&server).await;
    all_hear(&RedisNode::connect(&url).unwrap()).await;
}

/// Tokio's budget of a task that has done much hides what it waits for; of an answer that was read
/// nothing would tell again.
#[tokio::test]
async fn an_answer_is_heard_of_by_a_task_that_has_done_much() {
    let server = RedisServer::start().await;
    let node = written(&server).await;
    quiet(&node).await;
    for done in 120..136 {
        let (woken, waker) = Woken::waker();
        let mut call = asked(&server, &node, &waker);
        server.resume();
        woken.until(1).await;
        tokio::task::yield_now().await;
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        (0..done).for_each(|number| tell.send(number).unwrap());
        let start = Instant::now();
        let mut left = 0..done;
        let answer = poll_fn(|context| {
            // Not one more: who meets the end of its budget is called again by that.
            while left.next().is_some() && told.poll_recv(context).is_ready() {}
            call.as_mut().poll(context)
        });
        assert!(timeout(PATIENCE, answer).await.expect("heard of").is_ok());
        assert!(start.elapsed() < SLOW, "after {done}");
    }
}

#[tokio::test]
async fn a_caller_who_does_not_look_for_his_answer_keeps_nobody_waiting() {
    let server = RedisServer::start().await;
    let node = written(&server).await;
    quiet(&node).await;
    let idle = asked(&server, &node, Waker::noop());
    server.resume();
    for _ in 0..3 {
        let answer = timeout(SLOW, probe(&node)).await.expect("not kept waiting");
        assert!(answer.is_ok(), "{answer:?}");
    }
    assert!(timeout(PATIENCE, idle).await.expect("answered").is_ok());
}

#[tokio::test]
async fn an_answer_that_nobody_has_looked_for_is_not_overdue() {
    let server = RedisServer::start().await;
    let node = written(&server).await;
    quiet(&node).await;
    let idle = asked(&server, &node, Waker::noop());
    server.resume();
    // Longer than the connection waits for answers.
    sleep(Duration::from_millis(2_500)).await;
    assert!(timeout(PATIENCE, idle).await.expect("answered").is_ok());
    assert!(probe(&node).await.is_ok());
}

/// Longer than a socket holds: it goes on being read and written although nobody looks.
#[tokio::test]
async fn a_long_call_that_nobody_has_looked_at_is_sent_all_the_same() {
    let server = RedisServer::start().await;
    let node = written(&server).await;
    quiet(&node).await;
    let unpolled = node.call(vec![append(2, 4 << 20)]);
    let other = RedisNode::connect(&server.url()).unwrap();
    let start = Instant::now();
    loop {
        match one(&other, Op::Probe { at: at() }).await.unwrap() {
            Reply::Coverage(coverage) if coverage.producers.iter().any(|p| p.frontier == 2) => {
                break;
            }
            _ => assert!(start.elapsed() < SLOW, "it is not sent"),
        }
        sleep(Duration::from_millis(5)).await;
    }
    assert!(timeout(PATIENCE, unpolled).await.expect("answered").is_ok());
}
