//! One run: the scenario, with these faults, and what came of it.

use std::time::Duration;

use botsecret::runtime::{Part, run_in};

use super::{
    clock,
    faults::{Faults, Faulty, Met, Mutate, Planned, Reach},
    judge::Outcome,
    world::{END, OPERATOR_NAMESPACE, Scenario, World},
};

/// Until a killed operator is there again.
const UNTIL_BACK: Duration = Duration::from_secs(1);
/// More lives than any run with two faults has.
const LIVES: usize = 20;

/// What is run.
#[derive(Clone, Debug, Default)]
pub struct Case {
    pub scenario: Scenario,
    pub planned: Vec<Planned>,
    /// A defect that is planted: for the tests of the campaign itself.
    pub mutate: Option<Mutate>,
}

/// A run that is over.
pub struct Run {
    pub outcome: Outcome,
    pub writes: Vec<Met>,
    pub reads: Vec<Met>,
    /// How many of the planned faults were met.
    pub fired: usize,
    pub lives: usize,
}

/// Plays the scenario through on this thread.
pub fn run(case: &Case) -> Run {
    clock::reset();
    // The back-off of watches has jitter.
    fastrand::seed(1);
    let faults = Faults::new(&case.planned);
    let mut world = World::new(case.scenario, &faults);
    let mut lives = 0;
    while clock::elapsed() < END {
        lives += 1;
        assert!(lives <= LIVES, "the operator does not stay alive");
        live(&mut world, &faults, case.mutate);
        rest(&mut world);
    }
    Run { outcome: Outcome::of(&world), writes: faults.writes(), reads: faults.reads(), fired: faults.fired(), lives }
}

/// One life of the operator, until it is killed, ends, or the scenario does.
fn live(world: &mut World, faults: &Faults, mutate: Option<Mutate>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        clock::follow();
        faults.begin_life(&world.store);
        let mut deaths = faults.deaths();
        let manager = world.manager.clone();
        let part = Part { operator_namespace: OPERATOR_NAMESPACE.to_owned(), ..Part::default() };
        let reach = Reach { store: world.store.clone(), leases: world.manager.leases.clone() };
        let api = Faulty::new(&world.store, faults, mutate.map(|mutate| (mutate, reach)));
        let managers = move |client| manager.fetcher(client);
        let operator = run_in(api, managers, clock::wall, part, None, std::future::pending());
        let mut operator = tokio::spawn(operator);
        let mut changes = world.store.changes();
        loop {
            changes.borrow_and_update();
            let next = world.step();
            let next = faults.step(&world.store).map_or(next, |due| due.min(next));
            if clock::elapsed() >= END {
                break;
            }
            tokio::select! {
                biased;
                _ = deaths.changed() => break,
                _ = &mut operator => break,
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(clock::instant(next)) => {}
            }
        }
        clock::leave();
    });
    // Everything of it goes with its runtime.
    drop(runtime);
}

/// The world goes on without an operator, for a moment.
fn rest(world: &mut World) {
    let until = (clock::elapsed() + UNTIL_BACK).min(END);
    while clock::elapsed() < until {
        let next = world.step().clamp(clock::elapsed() + Duration::from_millis(1), until);
        clock::pass(next.saturating_sub(clock::elapsed()));
    }
}
