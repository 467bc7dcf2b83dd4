//! Who may look up names and open connections next, when many want to.
//!
//! A dial takes name servers, sockets and handshakes, and one that leads nowhere takes its time. So there is a bound on
//! those at once, and one for each tenancy; whoever is beyond takes its turn. Tenancies are served one after the other,
//! each with the request that has waited longest: however many wait in one, another waits for one of them at most per
//! round. Within a tenancy its runs are served one after the other in the same way.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orch_manifests::RunId;
use tokio::sync::oneshot;

use crate::tenancy::Tenancy;

/// Dials at once, of everybody.
const MOST: usize = 256;

/// Dials at once of one tenancy.
const MOST_OF_ONE: usize = 32;

/// The turns of a proxy.
pub(crate) struct Turns {
    state: Mutex<State>,
    most: usize,
    most_of_one: usize,
}

#[derive(Default)]
struct State {
    taken: usize,
    lines: HashMap<Tenancy, Line>,
    /// Tenancies in which somebody waits, the one that is next at the front.
    order: VecDeque<Tenancy>,
}

#[derive(Default)]
struct Line {
    taken: usize,
    /// By run, the one that is next at the front. None of them is empty.
    waiting: VecDeque<(RunId, VecDeque<oneshot::Sender<Turn>>)>,
}

impl Line {
    fn join(&mut self, run: &RunId, turn: oneshot::Sender<Turn>) {
        match self.waiting.iter_mut().find(|(other, _)| other == run) {
            Some((_, waiting)) => waiting.push_back(turn),
            None => self.waiting.push_back((run.clone(), VecDeque::from([turn]))),
        }
    }

    fn first(&mut self) -> Option<oneshot::Sender<Turn>> {
        let (run, mut waiting) = self.waiting.pop_front()?;
        let turn = waiting.pop_front();
        if !waiting.is_empty() {
            self.waiting.push_back((run, waiting));
        }
        turn
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self::new(MOST, MOST_OF_ONE)
    }
}

impl Turns {
    pub(crate) fn new(most: usize, most_of_one: usize) -> Self {
        Self { state: Mutex::default(), most, most_of_one }
    }

    /// Waits for a turn of this tenancy and run, which lasts until it is dropped.
    pub(crate) async fn take(self: &Arc<Self>, tenancy: Tenancy, run: &RunId) -> Turn {
        let waiting = {
            let mut state = self.lock();
            let State { taken, lines, order } = &mut *state;
            let line = lines.entry(tenancy).or_default();
            if *taken < self.most && line.taken < self.most_of_one {
                // Whoever waits is kept from it by one of the two bounds: nobody is passed over.
                *taken += 1;
                line.taken += 1;
                return Turn { turns: Some(Arc::clone(self)), tenancy };
            }
            if line.waiting.is_empty() {
                order.push_back(tenancy);
            }
            let (turn, waiting) = oneshot::channel();
            line.join(run, turn);
            waiting
        };
        match waiting.await {
            Ok(turn) => turn,
            // A sender is only dropped with all turns, and those are held here.
            Err(_) => unreachable!("who waits is told"),
        }
    }

    fn give_back(self: &Arc<Self>, tenancy: Tenancy) {
        let mut over = tenancy;
        // In a loop, since any number of those who waited may have gone.
        while let Some((waiting, next)) = self.pass_on(over) {
            match waiting.send(Turn { turns: Some(Arc::clone(self)), tenancy: next }) {
                Ok(()) => return,
                Err(mut unwanted) => unwanted.turns = None,
            }
            over = next;
        }
    }

    /// Ends a turn of this tenancy, and takes one for whoever is next. They are told when the lock is free again.
    fn pass_on(&self, over: Tenancy) -> Option<(oneshot::Sender<Turn>, Tenancy)> {
        let mut state = self.lock();
        state.taken -= 1;
        if let Some(line) = state.lines.get_mut(&over) {
            line.taken -= 1;
        }
        let next = self.next(&mut state);
        if state.lines.get(&over).is_some_and(|line| line.taken == 0 && line.waiting.is_empty()) {
            state.lines.remove(&over);
        }
        next
    }

    /// Takes a turn for whoever is next.
    fn next(&self, state: &mut State) -> Option<(oneshot::Sender<Turn>, Tenancy)> {
        if state.taken >= self.most {
            return None;
        }
        let State { taken, lines, order } = state;
        let may = |tenancy: &Tenancy| lines.get(tenancy).is_some_and(|line| line.taken < self.most_of_one);
        let tenancy = order.remove(order.iter().position(may)?)?;
        let line = lines.get_mut(&tenancy)?;
        let waiting = line.first()?;
        *taken += 1;
        line.taken += 1;
        if !line.waiting.is_empty() {
            order.push_back(tenancy);
        }
        Some((waiting, tenancy))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One dial's turn.
pub(crate) struct Turn {
    /// None once it is over.
    turns: Option<Arc<Turns>>,
    tenancy: Tenancy,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.give_back(self.tenancy);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;

    use super::*;

    fn tenancy(number: u8) -> Tenancy {
        Tenancy::numbered(number)
    }

    /// Begins to wait.
    fn wait(turns: &Arc<Turns>, number: u8) -> BoxFuture<'static, Turn> {
        wait_in(turns, number, RunId::random())
    }

    fn wait_in(turns: &Arc<Turns>, number: u8, run: RunId) -> BoxFuture<'static, Turn> {
        let turns = Arc::clone(turns);
        let mut waiting = async move { turns.take(tenancy(number), &run).await }.boxed();
        assert!((&mut waiting).now_or_never().is_none(), "{number} has its turn at once");
        waiting
    }

    fn at_once(turns: &Arc<Turns>, number: u8) -> Turn {
        turns.take(tenancy(number), &RunId::random()).now_or_never().expect("a turn")
    }

    fn idle(turns: &Turns) -> bool {
        let state = turns.lock();
        state.taken == 0 && state.lines.is_empty() && state.order.is_empty()
    }

    #[test]
    fn one_that_takes_all_it_may_leaves_room_for_another() {
        let turns = Arc::new(Turns::new(10, 3));
        let held: Vec<Turn> = (0..3).map(|_| at_once(&turns, 1)).collect();
        let waiting = wait(&turns, 1);
        let other = at_once(&turns, 2);
        drop(held);
        drop((waiting.now_or_never().expect("its turn"), other));
        assert!(idle(&turns));
    }

    #[test]
    fn those_who_wait_take_turns_whoever_has_more() {
        let turns = Arc::new(Turns::new(1, 1));
        let mut held = Some(at_once(&turns, 1));
        let mut waiting: Vec<(u8, BoxFuture<'static, Turn>)> =
            [1, 1, 1, 2, 3, 2].map(|number| (number, wait(&turns, number))).into();
        let mut order = Vec::new();
        while held.take().is_some() {
            let next = waiting
                .iter_mut()
                .enumerate()
                .find_map(|(index, (_, waiting))| Some((index, waiting.now_or_never()?)));
            if let Some((index, turn)) = next {
                order.push(waiting.remove(index).0);
                held = Some(turn);
            }
        }
        assert_eq!(order, [1, 2, 3, 1, 2, 1]);
        assert!(idle(&turns));
    }

    #[test]
    fn runs_of_one_tenancy_take_turns() {
        let turns = Arc::new(Turns::new(10, 1));
        let (many, few) = (RunId::random(), RunId::random());
        let held = at_once(&turns, 1);
        let mut of_many: VecDeque<_> = (0..3).map(|_| wait_in(&turns, 1, many.clone())).collect();
        let of_few = wait_in(&turns, 1, few);
        drop(held);
        let turn =
            of_many.pop_front().and_then(|waiting| waiting.now_or_never()).expect("the first one's turn");
        let of_few = {
            drop(turn);
            of_few.now_or_never().expect("the other run's turn")
        };
        drop((of_few, of_many));
        assert!(idle(&turns));
    }

    #[test]
    fn who_does_not_wait_any_more_is_passed_over() {
        let turns = Arc::new(Turns::new(1, 1));
        let held = at_once(&turns, 1);
        let (gone, also_gone, waiting) = (wait(&turns, 2), wait(&turns, 2), wait(&turns, 3));
        drop((gone, also_gone));
        drop(held);
        let turn = waiting.now_or_never().expect("its turn");
        // One that was given a turn and went without it gives it back.
        let given = wait(&turns, 4);
        drop(turn);
        drop(given);
        assert!(idle(&turns));
    }

    #[tokio::test]
    async fn the_bounds_hold_whatever_comes_and_goes() {
        let turns = Arc::new(Turns::new(7, 2));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..400u16 {
            let turns = Arc::clone(&turns);
            tasks.spawn(async move {
                let tenancy = tenancy(u8::try_from(number % 9).unwrap());
                let turn = turns.take(tenancy, &RunId::random()).await;
                {
                    let state = turns.lock();
                    assert!(state.taken <= 7 && state.lines[&tenancy].taken <= 2);
                }
                for _ in 0..number % 5 {
                    tokio::task::yield_now().await;
                }
                drop(turn);
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        assert!(idle(&turns));
    }
}
