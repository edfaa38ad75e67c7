//! What may happen next in a state of the world.

use super::{
    operator::{Eyes, Pass, Shop},
    rollout::Answer,
    world::{Notes, Phase, Pod, World, Write},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A pass begins, for a look that is due or for another reason, with what
    /// the watch shows: as things are, or as they were one write before.
    Begin { due: bool, behind: [bool; 3] },
    /// The request on which the pass waits is done.
    GoOn,
    /// It is done, and its answer is lost.
    ReplyLost,
    /// It is refused though nothing changed.
    Refused,
    /// The process ends and another begins.
    Crash,
    /// Another replica takes over; a write of the first is still on its way.
    Depose,
    /// That write arrives.
    Late,
    /// The source gets a new value.
    Rotate { good: bool },
    /// The source goes back to its first value.
    RollBack,
    /// Somebody takes the marker off a template, or the record with it.
    Strip { index: usize, record: bool },
    /// The Deployment controller sees a template.
    Observe(usize),
    /// It makes a pod.
    Create(usize),
    /// It takes the pods of older templates away.
    Retire(usize),
    /// A pod goes on to what comes next for it.
    Pod { index: usize, pod: usize },
    /// As long passes as a workload is watched.
    Tick,
    /// Every deadline passes.
    Wait,
}

/// Longer than any deadline and any two clocks are apart.
const LONG: i64 = 2000;

/// What people, the source and faults may do or not.
pub fn whims(world: &World, shop: &mut Shop, next: &mut Vec<(Action, World)>) {
    let mut add = |action, change: &mut dyn FnMut(&mut World)| {
        let mut after = world.clone();
        change(&mut after);
        next.push((action, after));
    };
    if world.rotations > 0 {
        let mut kinds = vec![Action::Rotate { good: true }];
        kinds.extend((!world.setup.all_good).then_some(Action::Rotate { good: false }));
        kinds.extend((world.source != 0).then_some(Action::RollBack));
        for action in kinds {
            add(action, &mut |after| {
                after.rotations -= 1;
                let Action::Rotate { good } = action else { return after.source = 0 };
                after.source = after.values;
                after.values += 1;
                after.bad |= u8::from(!good) << after.source;
            });
        }
    }
    for index in [0, 1] {
        let Some(marker) = world.workloads[index].marker.filter(|_| world.strips > 0) else { continue };
        for record in [false, true] {
            add(Action::Strip { index, record }, &mut |after| {
                after.strips -= 1;
                after.ledger.excused[index][usize::from(marker.number)] += 1;
                after.edit(index, |workload| {
                    workload.marker = None;
                    workload.observed = false;
                    workload.record = workload.record.filter(|_| !record);
                });
            });
        }
    }
    if world.faults == 0 {
        return;
    }
    add(Action::Crash, &mut |after| {
        after.faults -= 1;
        after.pass = None;
        after.notes = Notes::default();
    });
    let write = world.pass.as_ref().and_then(Pass::next).copied();
    if let Some(write) = write.filter(|_| !world.deposed) {
        add(Action::Depose, &mut |after| {
            after.faults -= 1;
            after.deposed = true;
            after.pass = None;
            after.notes = Notes::default();
            after.late = Some(write);
        });
    }
    if write.is_some_and(|write| world.takes(&write)) {
        for (action, answer) in [(Action::ReplyLost, Answer::None), (Action::Refused, Answer::Conflict)] {
            add(action, &mut |after| {
                after.faults -= 1;
                advance(after, shop, answer);
            });
        }
    }
    if world.pass.is_none() {
        for behind in [[true, false, false], [false, true, false], [false, false, true], [true; 3]] {
            let mut after = world.clone();
            after.faults -= 1;
            if begin(&mut after, shop, true, behind) {
                next.push((Action::Begin { due: true, behind }, after));
            }
        }
    }
}

/// What happens by itself, sooner or later.
pub fn steps(world: &World, shop: &mut Shop, next: &mut Vec<(Action, World)>) {
    for index in [0, 1] {
        controller(world, index, next);
        for pod in 0..world.workloads[index].pods.len() {
            let mut after = world.clone();
            if step_pod(&mut after, index, pod) {
                next.push((Action::Pod { index, pod }, after));
            }
        }
    }
    let mut after = world.clone();
    if let Some(late) = after.late.take() {
        if after.takes(&late) || shop.unguarded() {
            after.write(late);
        }
        next.push((Action::Late, after));
    }
    let mut after = world.clone();
    if world.pass.is_some() {
        advance(&mut after, shop, Answer::Done);
        next.push((Action::GoOn, after));
    } else {
        begin(&mut after, shop, true, [false; 3]);
        next.push((Action::Begin { due: true, behind: [false; 3] }, after));
        if world.notes.settled_in && !world.setup.always_due {
            let mut after = world.clone();
            begin(&mut after, shop, false, [false; 3]);
            next.push((Action::Begin { due: false, behind: [false; 3] }, after));
        }
    }
    let mut after = world.clone();
    after.now += 1;
    for workload in &world.workloads {
        // One that leaves proves nothing, and holds nothing up.
        let mut left = workload.pods.iter().filter(|pod| !pod.terminating);
        if let (Some(pod), None) = (left.next(), left.next())
            && pod.phase == Phase::Ready
            && let Some(held) = pod.holds
        {
            after.ledger.proven |= 1 << held.number;
        }
    }
    next.push((Action::Tick, after));
}

/// All deadlines pass: only where nothing else happens any more.
pub fn wait(world: &World) -> World {
    World { now: world.now + LONG, ..world.clone() }
}

/// Begins a pass. False where the watch cannot be behind like that.
fn begin(world: &mut World, shop: &mut Shop, due: bool, behind: [bool; 3]) -> bool {
    let [secret, status, workloads] = behind;
    // A process knows its own writes of the first two.
    if (secret || status) && world.notes.settled_in {
        return false;
    }
    let now = [world.workloads[0].shown(), world.workloads[1].shown()];
    let before = [0, 1].map(|index| world.workloads_before[index].unwrap_or(now[index]));
    let eyes = Eyes {
        status: if status { world.status_before.unwrap_or(world.status) } else { world.status },
        workloads: if workloads { before } else { now },
        secret: if secret { world.secret_before.unwrap_or(world.secret) } else { world.secret },
        notes: world.notes,
        due,
    };
    let is_behind = (eyes.secret != world.secret, eyes.status != world.status, eyes.workloads != now)
        == (secret, status, workloads);
    if is_behind {
        shop.begin(world, eyes);
    }
    is_behind
}

/// The pass's request is answered: done, if it may be.
fn advance(world: &mut World, shop: &mut Shop, answer: Answer) {
    let Some(pass) = world.pass.take() else { return };
    let answer = match pass.next() {
        Some(Write::Patch { index, rev, number, .. })
            if answer == Answer::Done && shop.records_first() && world.takes(pass.next().expect("a write")) =>
        {
            let (index, record) = (*index, (*rev, *number));
            if world.workloads[index].record != Some(record) {
                // The record goes out by itself, and the patch thereafter.
                world.workloads[index].record = Some(record);
                world.pass = Some(pass);
                return;
            }
            world.write(*pass.next().expect("a write"));
            answer
        }
        Some(write) if answer == Answer::Conflict || !(world.takes(write) || shop.unguarded()) => Answer::Conflict,
        Some(write) => {
            world.write(*write);
            answer
        }
        None => answer,
    };
    shop.go_on(world, pass, answer);
}

/// Makes the new pod first, and ends the old one when that is ready; or the other
/// way round.
fn controller(world: &World, index: usize, next: &mut Vec<(Action, World)>) {
    let workload = &world.workloads[index];
    let surges = !world.setup.recreates[index];
    let updated = |pod: &Pod| !pod.terminating && pod.marker == workload.marker;
    let old = |pod: &Pod| !pod.terminating && pod.marker != workload.marker;
    let mut add = |action, change: &dyn Fn(&mut World)| {
        let mut after = world.clone();
        change(&mut after);
        next.push((action, after));
    };
    let new = Pod {
        phase: Phase::Pending,
        terminating: false,
        holds: None,
        marker: workload.marker,
        created: world.now,
        started: world.now,
        restarted: false,
    };
    let up = workload.pods.iter().any(|pod| updated(pod) && pod.phase == Phase::Ready);
    if !workload.observed {
        add(Action::Observe(index), &|after| {
            after.edit(index, |workload| {
                workload.observed = true;
                // What is not ready serves nobody, and one that does is enough.
                let mut serving = up;
                for pod in workload.pods.iter_mut().filter(|pod| !pod.terminating && pod.marker != workload.marker) {
                    pod.terminating = !surges || serving || pod.phase != Phase::Ready;
                    serving |= !pod.terminating;
                }
                let has = workload.pods.iter().any(|pod| !pod.terminating && pod.marker == workload.marker);
                if surges && !has {
                    workload.pods.push(new);
                }
            });
        });
        return;
    }
    if !workload.pods.iter().any(updated) && (surges || workload.pods.is_empty()) {
        add(Action::Create(index), &|after| after.edit(index, |workload| workload.pods.push(new)));
    }
    if up && workload.pods.iter().any(old) {
        add(Action::Retire(index), &|after| {
            after.edit(index, |workload| {
                for pod in workload.pods.iter_mut().filter(|pod| pod.marker != workload.marker) {
                    pod.terminating = true;
                }
            });
        });
    }
}

/// Takes a pod one step on. False where it stays as it is.
fn step_pod(world: &mut World, index: usize, which: usize) -> bool {
    let pod = world.workloads[index].pods[which];
    let holds = Some(world.secret.state.rev);
    let next = match pod.phase {
        _ if pod.terminating => None,
        Phase::Pending => Some(Pod { phase: Phase::Starting, holds, ..pod }),
        Phase::Starting => {
            let bad = pod.holds.is_some_and(|held| world.is_bad(held.value));
            Some(Pod { phase: if bad { Phase::Crashing } else { Phase::Ready }, ..pod })
        }
        // It reads the Secret again each time that it starts.
        Phase::Crashing if pod.holds != holds => {
            Some(Pod { phase: Phase::Starting, holds, restarted: true, started: world.now, ..pod })
        }
        Phase::Ready | Phase::Crashing => return false,
    };
    world.edit(index, |workload| match next {
        Some(next) => workload.pods[which] = next,
        None => drop(workload.pods.remove(which)),
    });
    true
}
