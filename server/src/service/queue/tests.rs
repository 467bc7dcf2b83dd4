//! Turns: none is lost, none is given twice, and each goes to whom it belongs.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use tokio::task::JoinSet;

use super::*;

type Waiting = Pin<Box<dyn Future<Output = Turn> + Send>>;

fn waiting(queue: &Arc<Queue>, workspace: &str) -> Waiting {
    let (queue, workspace) = (Arc::clone(queue), workspace.to_owned());
    Box::pin(async move { queue.turn(&workspace).await })
}

/// The turn, if it has come.
fn poll(waiting: &mut Waiting) -> Option<Turn> {
    match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(turn) => Some(turn),
        Poll::Pending => None,
    }
}

#[test]
fn a_turn_goes_from_workspace_to_workspace() {
    let queue = Queue::new(1, 10);
    let mut turn = queue.try_turn();
    assert!(turn.is_some() && queue.try_turn().is_none());
    let mut all: Vec<(&str, Waiting)> =
        ["a1", "a2", "a3", "b1", "c1"].into_iter().map(|who| (who, waiting(&queue, &who[..1]))).collect();
    assert!(all.iter_mut().all(|(_, waiting)| poll(waiting).is_none()));
    let mut order = Vec::new();
    while !all.is_empty() {
        drop(turn.take());
        let ready = all.iter_mut().enumerate().find_map(|(at, (_, waiting))| Some((at, poll(waiting)?)));
        let (at, next) = ready.expect("somebody has the turn");
        assert!(queue.try_turn().is_none(), "nobody comes in between");
        turn = Some(next);
        order.push(all.remove(at).0);
    }
    assert_eq!(order, ["a1", "b1", "c1", "a2", "a3"]);
}

#[test]
fn who_goes_away_leaves_the_turn_to_the_next() {
    let queue = Queue::new(1, 10);
    let turn = queue.try_turn().expect("free");
    let [mut gone, mut handed, mut last] = [(); 3].map(|()| waiting(&queue, "a"));
    for waiting in [&mut gone, &mut handed, &mut last] {
        assert!(poll(waiting).is_none());
    }
    drop(gone);
    drop(turn);
    // It was handed the turn and has not looked.
    drop(handed);
    assert!(poll(&mut last).is_some(), "and the turn it got is over at once");
    assert_eq!(queue.running(), 0);
}

/// What the queue should do, in the plainest way.
#[derive(Default)]
struct Model {
    free: usize,
    round: VecDeque<usize>,
    lines: BTreeMap<usize, VecDeque<usize>>,
    handed: HashSet<usize>,
}

impl Model {
    fn join(&mut self, workspace: usize, who: usize) {
        if self.free > 0 {
            self.free -= 1;
            self.handed.insert(who);
            return;
        }
        let line = self.lines.entry(workspace).or_default();
        if line.is_empty() {
            self.round.push_back(workspace);
        }
        line.push_back(who);
    }

    fn release(&mut self) {
        let Some(workspace) = self.round.pop_front() else {
            self.free += 1;
            return;
        };
        let line = self.lines.get_mut(&workspace).expect("a line");
        self.handed.insert(line.pop_front().expect("somebody"));
        if !line.is_empty() {
            self.round.push_back(workspace);
        }
    }

    fn cancel(&mut self, workspace: usize, who: usize) {
        if self.handed.remove(&who) {
            self.release();
            return;
        }
        let line = self.lines.get_mut(&workspace).expect("a line");
        line.retain(|waiting| *waiting != who);
        if line.is_empty() {
            self.round.retain(|waiting| *waiting != workspace);
        }
    }

    fn waiting(&self) -> usize {
        self.lines.values().map(VecDeque::len).sum()
    }
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}

#[test]
fn whatever_comes_and_goes_no_turn_is_lost_and_the_order_is_fair() {
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let (turns, workspaces) = (1 + dice.below(4), 1 + dice.below(12));
        let queue = Queue::new(turns, 0);
        let mut model = Model { free: turns, ..Model::default() };
        let (mut line, mut running): (Vec<(usize, usize, Waiting)>, Vec<Turn>) = (Vec::new(), Vec::new());
        for who in 0..400 {
            match dice.below(10) {
                // Most belong to one workspace.
                0..4 => {
                    let workspace = dice.below(workspaces) * dice.below(2);
                    model.join(workspace, who);
                    let mut waiting = waiting(&queue, &workspace.to_string());
                    match poll(&mut waiting) {
                        Some(turn) => {
                            assert!(model.handed.remove(&who), "{seed}: {who} came in between");
                            running.push(turn);
                        }
                        None => line.push((workspace, who, waiting)),
                    }
                }
                4..6 if !line.is_empty() => {
                    let (workspace, who, waiting) = line.swap_remove(dice.below(line.len()));
                    model.cancel(workspace, who);
                    drop(waiting);
                }
                6..8 if !running.is_empty() => {
                    model.release();
                    drop(running.swap_remove(dice.below(running.len())));
                }
                _ if !line.is_empty() => {
                    let at = dice.below(line.len());
                    let (_, who, waiting) = &mut line[at];
                    let turn = poll(waiting);
                    assert_eq!(turn.is_some(), model.handed.remove(who), "{seed}: the turn of {who}");
                    if let Some(turn) = turn {
                        running.push(turn);
                        drop(line.swap_remove(at));
                    }
                }
                _ => {}
            }
            assert_eq!(queue.running(), running.len() + model.handed.len(), "{seed}");
            assert_eq!(queue.lock().lines.len(), model.waiting(), "{seed}");
            assert!(model.waiting() == 0 || queue.lock().free == 0, "{seed}: a turn is free while one waits");
        }
        drop((line, running));
        assert_eq!((queue.running(), queue.lock().lines.len()), (0, 0), "{seed}: a turn was lost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_get_their_turns_whoever_gives_up() {
    const TURNS: usize = 4;
    let queue = Queue::new(TURNS, 0);
    let at_once = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for workspace in 0..40 {
        for run in 0..50 {
            let (queue, at_once) = (Arc::clone(&queue), Arc::clone(&at_once));
            let handle = tasks.spawn(async move {
                let turn = queue.turn(&workspace.to_string()).await;
                assert!(at_once.fetch_add(1, Ordering::SeqCst) < TURNS);
                tokio::task::yield_now().await;
                at_once.fetch_sub(1, Ordering::SeqCst);
                drop(turn);
            });
            if run % 7 == 3 {
                handle.abort();
            }
        }
    }
    while let Some(ended) = tasks.join_next().await {
        assert!(ended.is_ok() || ended.is_err_and(|error| error.is_cancelled()));
    }
    assert_eq!((queue.running(), queue.lock().lines.len()), (0, 0));
}

#[tokio::test]
async fn a_closed_queue_is_empty_when_the_last_place_is_given_back() {
    let queue = Queue::new(1, 10);
    let first = queue.enter("a", 7).expect("room");
    let second = queue.enter_again("b", 7).expect("room");
    queue.close();
    assert_eq!(queue.enter("a", 0).err().expect("closed").code(), "shutting_down");
    assert!(queue.enter_again("a", 0).is_none() && queue.is_closed());
    let mut empty = Box::pin(queue.empty());
    for place in [first, second] {
        assert!(empty.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(place);
    }
    empty.await;
    assert_eq!(queue.waiting(), 0);
}

#[test]
fn a_workspace_that_fills_its_share_leaves_room_for_others() {
    let queue = Queue::new(1, 4);
    let _turn = queue.try_turn().expect("free");
    let held: Vec<Place> = std::iter::from_fn(|| queue.enter("greedy", 0).ok()).collect();
    assert_eq!(held.len(), 2);
    assert!(queue.enter("other", 0).is_ok());
    drop(held);
    assert_eq!(queue.waiting(), 0);
}
