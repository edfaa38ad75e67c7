//! Visits every state that can be reached, breadth first, so that what is found
//! first is the shortest way to it.
//!
//! A search of its own, not `stateright`: that brings a web server and a dozen
//! more crates, and its "eventually" misses what this is for, a state in which
//! nothing goes on and that is not the goal.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use super::{
    Mutant,
    actions::{Action, steps, wait, whims},
    canon::settle,
    judge::{goal, harm},
    operator::Shop,
    world::World,
};

/// How many look for new states at the same time.
const SEARCHERS: usize = 2;

/// What a search found.
#[derive(Debug)]
pub struct Found {
    pub states: usize,
    pub steps: usize,
    /// States in which nothing goes on any more.
    pub ends: usize,
    pub took: Duration,
    /// What is wrong, and the way to it.
    pub wrong: Option<(String, Vec<String>)>,
}

fn hash(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

/// What one state leads to.
struct Visit {
    next: Vec<(Action, World)>,
    is_end: bool,
    wrong: Option<(Option<Action>, String)>,
}

fn visit(world: &World, shop: &mut Shop) -> Visit {
    let mut next = Vec::new();
    steps(world, shop, &mut next);
    let by_itself = next.len();
    whims(world, shop, &mut next);
    let mut wrong = next.iter().find_map(|(action, after)| Some((Some(*action), harm(world, *action, after)?)));
    for (_, after) in &mut next {
        settle(after);
    }
    let lesser = |action: &Action| matches!(action, Action::Begin { due: false, .. });
    let rests = next[..by_itself].iter().all(|(action, after)| lesser(action) || after == world);
    let mut is_end = false;
    if rests {
        let mut after = wait(world);
        settle(&mut after);
        is_end = after == *world;
        next.push((Action::Wait, after));
    }
    if is_end && wrong.is_none() {
        wrong = goal(world).map(|what| (None, what));
    }
    Visit { next, is_end, wrong }
}

/// Searches from `first` on.
pub fn search(mut first: World, mutant: Option<Mutant>) -> Found {
    let begun = Instant::now();
    settle(&mut first);
    let mut known: HashMap<u64, Option<(u64, Action)>> = HashMap::from([(hash(&first), None)]);
    let mut found = Found { states: 1, steps: 0, ends: 0, took: Duration::ZERO, wrong: None };
    let mut frontier = vec![first.clone()];
    while !frontier.is_empty() && found.wrong.is_none() {
        let share = frontier.len().div_ceil(SEARCHERS);
        let look = |worlds: &[World]| {
            let mut shop = Shop::open(mutant);
            let visited = |world: &World| {
                let visit = visit(world, &mut shop);
                let next: Vec<_> =
                    visit.next.into_iter().map(|(action, after)| (action, hash(&after), after)).collect();
                (hash(world), next, visit.is_end, visit.wrong)
            };
            worlds.iter().map(visited).collect::<Vec<_>>()
        };
        // A few at a time: what they lead to is held until it is sorted out.
        let mut fresh = Vec::new();
        for part in frontier.chunks(share.min(2_000) * SEARCHERS) {
            let visits: Vec<_> = std::thread::scope(|scope| {
                let running: Vec<_> = part
                    .chunks(part.len().div_ceil(SEARCHERS))
                    .map(|worlds| scope.spawn(move || look(worlds)))
                    .collect();
                running.into_iter().flat_map(|one| one.join().expect("no searcher panics")).collect()
            });
            for (from, next, is_end, wrong) in visits {
                found.ends += usize::from(is_end);
                found.steps += next.len();
                for (action, to, after) in next {
                    known.entry(to).or_insert_with(|| {
                        fresh.push(after);
                        Some((from, action))
                    });
                }
                if let Some((action, what)) = wrong.filter(|_| found.wrong.is_none()) {
                    let mut way = way(&known, from);
                    way.extend(action);
                    found.wrong = Some((what, retrace(&first, &way, mutant)));
                }
            }
        }
        frontier = fresh;
    }
    found.states = known.len();
    found.took = begun.elapsed();
    found
}

fn way(known: &HashMap<u64, Option<(u64, Action)>>, to: u64) -> Vec<Action> {
    let mut way: Vec<_> =
        std::iter::successors(known[&to], |(from, _)| known[from]).map(|(_, action)| action).collect();
    way.reverse();
    way
}

/// The way in words, and where it ends.
fn retrace(first: &World, way: &[Action], mutant: Option<Mutant>) -> Vec<String> {
    let mut shop = Shop::open(mutant);
    let mut world = first.clone();
    let mut told = Vec::new();
    for action in way {
        let next = visit(&world, &mut shop).next.into_iter().find(|(one, _)| one == action);
        let after = next.expect("the same way leads to the same").1;
        told.push(format!("{action:?}{}", super::judge::change(&world, &after)));
        world = after;
    }
    told.push(format!("{world:#?}"));
    told
}
