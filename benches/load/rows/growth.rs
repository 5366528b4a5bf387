//! Row 10: what posts, lists and claims cost as a queue grows, and as queues become many.
//!
//! Calls are made one at a time, on all sizes in turns within one run; what counts is the ratio of
//! the medians of all turns to those of the smallest. A claim is released before the next one, so
//! that all find the same.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::try_join_all;
use roundelay::{
    ClaimOptions, ContentType, Error, ListOptions, Marker, Metadata, NewMessage, Project, Queue,
    QueueName, Store,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Bound, Line, Outcome};
use crate::measured::median;
use crate::progress::Progress;
use crate::redis_server::RedisServer;
use crate::run::Settings;
use crate::target::Kind;

/// Messages in a queue.
const MESSAGES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// Queues in a store, with a few messages each.
const QUEUES: [usize; 4] = [1, 100, 10_000, 100_000];
/// Messages that are claimed already.
const CLAIMED: usize = 100_000;
/// Turns of which the median counts, calls of one turn: many short ones, so that what else the
/// machine does hits all sizes alike.
const TURNS: usize = 21;
const CALLS: usize = 10;
const BODY: usize = 100;
const IN_A_POST: usize = 200;
/// Messages of a page and of a claim, in one queue and in many.
const PAGE: usize = 100;
const CLAIM: usize = 10;
const IN_EACH: usize = 10;
const CALLERS: usize = 32;

/// When the store has heard of all that was changed while queues were made.
const SETTLED: Duration = Duration::from_secs(3);

const MESSAGES_BOUND: f64 = 1.25;
const QUEUES_BOUND: f64 = 2.0;

pub(super) fn turns() -> usize {
    MESSAGES.len() + QUEUES.len() + 2
}

/// A store of its own, and queues in it.
struct Bed {
    _servers: Vec<RedisServer>,
    store: Store,
    project: Project,
}

/// One size: its queues and what calls on them took, in microseconds, one number a turn.
struct Size {
    size: usize,
    queues: Vec<Queue>,
    post: Vec<f64>,
    list: Vec<f64>,
    claim: Vec<f64>,
}

pub(super) async fn run(settings: &Settings, progress: &Progress) -> Result<Outcome, String> {
    if let Some(missing) = Kind::Redis.missing() {
        return Err(missing);
    }
    measure(settings.scale, progress).await.map_err(|error| error.to_string())
}

async fn measure(scale: usize, progress: &Progress) -> Result<Outcome, Error> {
    let scaled = |size: usize, least: usize| (size / scale).max(least);
    // Those that came out alike are one.
    let scaled_all =
        |sizes: [usize; 4], least| BTreeSet::from(sizes.map(|size| scaled(size, least)));
    let mut outcome = Outcome::new(10, "growth: one caller, 100 B, microseconds a call");
    let bed = Bed::new().await?;
    let mut sizes = Vec::new();
    for size in scaled_all(MESSAGES, 1_000) {
        progress.say(&format!("growth: {size} messages"));
        let queue = bed.queue(&format!("m{}", sizes.len())).await?;
        fill(&queue, size).await?;
        sizes.push(Size::new(size, vec![queue]));
        progress.step();
    }
    for _ in 0..TURNS {
        for size in &mut sizes {
            size.measure(PAGE, CLAIM).await?;
        }
    }
    outcome.add("messages", &sizes, MESSAGES_BOUND);
    progress.say("growth: behind the middle");
    if let Some(longest) = sizes.last() {
        outcome.lines.push(behind_the_middle(longest.queue(), longest.size).await?);
    }
    progress.step();
    progress.say("growth: claimed");
    // More than all turns take.
    outcome.lines.push(claimed(&bed, scaled(CLAIMED, 2 * TURNS * CALLS * CLAIM)).await?);
    progress.step();
    bed.store.close().await;

    let (mut beds, mut sizes) = (Vec::new(), Vec::new());
    for count in scaled_all(QUEUES, 1) {
        progress.say(&format!("growth: {count} queues"));
        let bed = Bed::new().await?;
        sizes.push(Size::new(count, bed.queues(count).await?));
        beds.push(bed);
        progress.step();
    }
    sleep(SETTLED).await;
    for size in &sizes {
        size.look_at_all().await?;
    }
    for _ in 0..TURNS {
        for size in &mut sizes {
            size.measure(IN_EACH, IN_EACH / 2).await?;
        }
    }
    outcome.add("queues", &sizes, QUEUES_BOUND);
    for bed in &beds {
        bed.store.close().await;
    }
    Ok(outcome)
}

impl Bed {
    async fn new() -> Result<Self, Error> {
        let mut servers = Vec::new();
        let mut builder = Store::builder();
        for _ in 0..3 {
            let server = RedisServer::start().await;
            builder = builder.node(server.url());
            servers.push(server);
        }
        let (store, project) = (builder.open().await?, Project::new("load")?);
        Ok(Self { _servers: servers, store, project })
    }

    async fn queue(&self, name: &str) -> Result<Queue, Error> {
        let queue = self.store.queue(&self.project, &QueueName::new(name)?);
        queue.create(&Metadata::default()).await?;
        Ok(queue)
    }

    /// Many queues with a few messages each. All are in the state in which one is after its first few
    /// calls: some messages lie in a segment that was closed for a claim, one behind it.
    async fn queues(&self, count: usize) -> Result<Vec<Queue>, Error> {
        let made = try_join_all((0..CALLERS).map(async |by| {
            let mut made = Vec::new();
            for number in (by..count).step_by(CALLERS) {
                let queue = self.queue(&format!("q{number}")).await?;
                queue.post(messages(IN_EACH)?, None).await?;
                let options = ClaimOptions { limit: 1, ..ClaimOptions::default() };
                let claim = queue.claim(&options).await?;
                queue.release(&claim.expect("nobody else claims").id).await?;
                queue.post(messages(1)?, None).await?;
                made.push(queue);
            }
            Ok::<_, Error>(made)
        }));
        Ok(made.await?.into_iter().flatten().collect())
    }
}

fn messages(count: usize) -> Result<Vec<NewMessage>, Error> {
    let message = NewMessage::new(ContentType::Bytes, vec![b'x'; BODY])?;
    Ok(vec![message; count])
}

/// Posts so many messages, or some more.
async fn fill(queue: &Queue, count: usize) -> Result<(), Error> {
    let posts = count.div_ceil(IN_A_POST);
    let all = (0..CALLERS).map(async |by| {
        for _ in (by..posts).step_by(CALLERS) {
            queue.post(messages(IN_A_POST)?, None).await?;
        }
        Ok::<_, Error>(())
    });
    try_join_all(all).await.map(drop)
}

/// Microseconds of a call that took this long together with others.
fn each(took: Duration, calls: usize) -> f64 {
    took.as_secs_f64() * 1e6 / calls as f64
}

impl Size {
    fn new(size: usize, queues: Vec<Queue>) -> Self {
        Self { size, queues, post: Vec::new(), list: Vec::new(), claim: Vec::new() }
    }

    /// Any of the queues.
    fn queue(&self) -> &Queue {
        &self.queues[fastrand::usize(..self.queues.len())]
    }

    /// Lets the store hear of all queues as they are now, as that of a service does which is asked
    /// for them.
    async fn look_at_all(&self) -> Result<(), Error> {
        let all = (0..CALLERS).map(async |by| {
            for queue in self.queues.iter().skip(by).step_by(CALLERS) {
                queue.list(&ListOptions::default()).await?;
            }
            Ok::<_, Error>(())
        });
        try_join_all(all).await.map(drop)
    }

    /// One turn.
    async fn measure(&mut self, page: usize, claim: usize) -> Result<(), Error> {
        let start = Instant::now();
        for _ in 0..CALLS {
            self.queue().post(messages(1)?, None).await?;
        }
        self.post.push(each(start.elapsed(), CALLS));
        let options = ListOptions { limit: page, ..ListOptions::default() };
        let start = Instant::now();
        for _ in 0..CALLS {
            let page = self.queue().list(&options).await?;
            assert_eq!(page.messages.len(), options.limit, "a queue lost messages");
        }
        self.list.push(each(start.elapsed(), CALLS));
        let options = ClaimOptions { limit: claim, ..ClaimOptions::default() };
        let mut took = Duration::ZERO;
        for _ in 0..CALLS {
            let queue = self.queue();
            let start = Instant::now();
            let claim = queue.claim(&options).await?;
            took += start.elapsed();
            let claim = claim.expect("there are messages that nobody claimed");
            queue.release(&claim.id).await?;
        }
        self.claim.push(each(took, CALLS));
        Ok(())
    }
}

/// Of one size, what calls of one kind took.
type Times = fn(&Size) -> &[f64];

impl Outcome {
    /// What one kind of growth showed.
    fn add(&mut self, of: &str, sizes: &[Size], bound: f64) {
        let mut text = format!("  {of:>9} {:>9} {:>9} {:>9}\n", "post", "list", "claim");
        for size in sizes {
            let of = |all: &[f64]| median(all.iter().copied());
            text.push_str(&format!(
                "  {:>9} {:>9.0} {:>9.0} {:>9.0}\n",
                size.size,
                of(&size.post),
                of(&size.list),
                of(&size.claim)
            ));
        }
        self.detail.push_str(&text);
        let parts: [(&str, Times); 3] = [
            ("post", |size| &size.post),
            ("list", |size| &size.list),
            ("claim", |size| &size.claim),
        ];
        for (name, times) in parts {
            let costs: Vec<f64> = sizes.iter().map(|s| median(times(s).iter().copied())).collect();
            let first = costs.first().copied().unwrap_or(f64::NAN);
            let highest = costs.iter().copied().fold(f64::MIN, f64::max);
            let (from, to) = (sizes.first(), sizes.last());
            let range = |size: Option<&Size>| size.map_or(0, |size| size.size);
            self.lines.push(Line {
                what: format!("{name}, {} to {} {of}, times", range(from), range(to)),
                found: Ok(highest / first),
                bound: Bound::at_most(bound, None),
            });
        }
        let values: Vec<Value> = sizes
            .iter()
            .map(|size| {
                json!({
                    "size": size.size, "post_us": size.post, "list_us": size.list,
                    "claim_us": size.claim,
                })
            })
            .collect();
        self.json[of] = json!(values);
    }
}

/// A page behind the first half of a queue, against one from its head.
async fn behind_the_middle(queue: &Queue, size: usize) -> Result<Line, Error> {
    let mut middle: Option<Marker> = None;
    let mut passed = 0;
    while passed < size / 2 {
        let options = ListOptions { marker: middle.take(), limit: 1000, ..ListOptions::default() };
        let page = queue.list(&options).await?;
        passed += page.messages.len();
        middle = page.marker;
    }
    let (mut head, mut behind) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        head.push(pages(queue, None).await?);
        behind.push(pages(queue, middle.clone()).await?);
    }
    Ok(Line {
        what: format!("list behind {passed} messages, times"),
        found: Ok(median(behind) / median(head)),
        bound: Bound::at_most(MESSAGES_BOUND, None),
    })
}

async fn pages(queue: &Queue, marker: Option<Marker>) -> Result<f64, Error> {
    let options = ListOptions { marker, limit: PAGE, ..ListOptions::default() };
    let start = Instant::now();
    for _ in 0..CALLS {
        queue.list(&options).await?;
    }
    Ok(each(start.elapsed(), CALLS))
}

/// A claim where many messages are claimed already, against one where few are.
async fn claimed(bed: &Bed, many: usize) -> Result<Line, Error> {
    let (few, full) = (bed.queue("few").await?, bed.queue("full").await?);
    fill(&few, many).await?;
    fill(&full, 2 * many).await?;
    let mut claimed = 0;
    let options =
        ClaimOptions { limit: 1000, ttl: Duration::from_secs(3600), ..ClaimOptions::default() };
    while claimed < many {
        let Some(claim) = full.claim(&options).await? else { break };
        claimed += claim.messages.len();
    }
    few.claim(&ClaimOptions::default()).await?;
    let (mut with_few, mut with_many) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        with_few.push(claims(&few).await?);
        with_many.push(claims(&full).await?);
    }
    Ok(Line {
        what: format!("claim with {claimed} claimed, times"),
        found: Ok(median(with_many) / median(with_few)),
        bound: Bound::at_most(MESSAGES_BOUND, None),
    })
}

async fn claims(queue: &Queue) -> Result<f64, Error> {
    let options = ClaimOptions { limit: CLAIM, ..ClaimOptions::default() };
    let start = Instant::now();
    for _ in 0..CALLS {
        let claim = queue.claim(&options).await?;
        // A claim holds messages of one segment: at a segment's end it comes back short.
        assert!(claim.is_some_and(|claim| !claim.messages.is_empty()), "messages are missing");
    }
    Ok(each(start.elapsed(), CALLS))
}
