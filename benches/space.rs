//! What a replica costs in memory: `cargo bench --bench space`.

#[path = "../tests/it/redis_server.rs"]
#[expect(dead_code, reason = "shared with the tests, which need more of it")]
mod redis_server;
#[path = "../tests/it/space.rs"]
mod space;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let report = runtime.expect("a runtime").block_on(space::measure(2_000));
    println!("2,000 blocks of 100 messages of 100 bytes; bytes a message above its 100:");
    println!("  posted                {:8.1}", report.posted);
    println!("  claimed, 20 a claim   {:8.1}", report.claimed);
    println!("  posted one by one     {:8.1}", report.alone);
    println!("90 % deleted at random, times what the rest needs: {:.2}", report.after_deletes);
    println!("all deleted, bytes a block until the segment leaves: {:.1}", report.stub);
    println!("an idle open replica, bytes: {:.0}", report.idle);
}
