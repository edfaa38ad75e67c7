//! What must never happen, and where everything must end.

use std::fmt::Write as _;

use botsecret::api::RotationPhase;

use super::{
    actions::Action,
    operator::Pass,
    world::{NAMES, Phase, Pod, World},
};

/// What is wrong about this step (P1, P3).
pub fn harm(before: &World, action: Action, after: &World) -> Option<String> {
    let secret = &after.secret;
    if secret.value != secret.state.value || secret.value != secret.state.rev.value {
        return Some(format!("the Secret's data is not what its state says: {secret:?}"));
    }
    if let (Action::Late, Some(late)) = (action, &before.late)
        && !before.takes(late)
        && (&after.secret, &after.status, &after.workloads) != (&before.secret, &before.status, &before.workloads)
    {
        return Some("a deposed replica's write that came too late had an effect".to_owned());
    }
    let (was, is) = (&before.ledger, &after.ledger);
    for (index, other) in [(0, 1), (1, 0)] {
        for rev in 0..is.patches[index].len() {
            let (patches, bit) = (is.patches[index][rev], 1 << rev);
            if patches == was.patches[index][rev] {
                continue;
            }
            let name = NAMES[index];
            if patches > 1 + is.excused[index][rev].min(1) {
                return Some(format!("{name} was patched {patches} times for revision {rev}"));
            }
            if rev == 0 {
                return Some(format!("{name} was patched for what it holds since the first sync"));
            }
            if was.failed[other] & bit != 0 {
                return Some(format!("{name} was patched to revision {rev}, on which {} failed", NAMES[other]));
            }
            let stripped = is.excused[other][rev] > 0;
            let held = |pod: &Pod| pod.holds.map(|held| usize::from(held.number));
            let any = |wanted: &dyn Fn(usize) -> bool| before.workloads[other].pods.iter().filter_map(held).any(wanted);
            // Whose marker was stripped in mid-rollout has it still, and goes on.
            let midway = any(&|held| held == rev) && any(&|held| held < rev);
            let first = is.patches[other][rev] > 0 && (!stripped || midway);
            if first && was.proven & bit == 0 {
                return Some(format!("{name} was patched to revision {rev} before it was proven on {}", NAMES[other]));
            }
        }
    }
    None
}

/// Why a world in which nothing goes on any more is not as it should be (P11).
pub fn goal(world: &World) -> Option<String> {
    if world.secret.value != world.source {
        return Some("the Secret does not hold the newest value".to_owned());
    }
    let rotation = world.status.1.rotation;
    let phase = rotation.map(|(_, phase, ..)| phase);
    if world.is_bad(world.source) {
        if phase != Some(RotationPhase::Halted) {
            return Some(format!("the newest value is bad, and the rotation is {phase:?}"));
        }
        let (rev, _, _, message) = rotation?;
        let named = (0..2).find(|index| {
            let told = message.starts_with(&format!("Deployment {} failed", NAMES[*index]));
            told && world.status.1.failed(*index) == Some(rev)
        });
        let Some(failed) = named else { return Some(format!("it does not say who failed: {message}")) };
        // Whose marker was stripped was rolled back with it.
        let of_other = |ledger: &[[u8; 5]; 2]| ledger[1 - failed][usize::from(rev.number)];
        let touched = of_other(&world.ledger.patches) > of_other(&world.ledger.excused);
        return touched.then(|| format!("{} was rolled too", NAMES[1 - failed]));
    }
    for (name, workload) in NAMES.iter().zip(&world.workloads) {
        let [pod] = workload.pods.as_slice() else { return Some(format!("{name} has not one pod")) };
        if pod.phase != Phase::Ready || pod.holds.is_none_or(|held| held.value != world.source) {
            return Some(format!("{name} does not run on the newest value"));
        }
    }
    let done = matches!(phase, None | Some(RotationPhase::Verified));
    (!done).then(|| format!("everybody runs on the newest value, and the rotation is {phase:?}"))
}

/// What a step changed, in a few words.
pub fn change(before: &World, after: &World) -> String {
    let mut told = String::new();
    let stage = |world: &World| match &world.pass {
        None => "none".to_owned(),
        Some(Pass::Look { .. }) => "before the look".to_owned(),
        Some(pass) => format!("before {:?}", pass.next()),
    };
    if before.pass != after.pass {
        let _ = write!(told, "\n    pass: {}", stage(after));
    }
    if before.secret.state.rev != after.secret.state.rev {
        let _ = write!(told, "\n    Secret: {:?}", after.secret);
    }
    if before.status.1 != after.status.1 {
        let _ = write!(told, "\n    status: {:?}", after.status.1);
    }
    for (index, name) in NAMES.iter().enumerate() {
        if before.workloads[index] != after.workloads[index] {
            let _ = write!(told, "\n    {name}: {:?}", after.workloads[index]);
        }
    }
    told
}
