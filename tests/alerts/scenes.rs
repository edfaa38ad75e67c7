//! Everything that is broken, each in an installation of its own, played once for all
//! tests.

use std::{collections::BTreeMap, panic::AssertUnwindSafe};

use anyhow::anyhow;
use futures::{FutureExt as _, StreamExt as _, future::LocalBoxFuture, stream};
use tokio::sync::OnceCell;

use crate::{identities, leases, managers, operators, rotations, scraper::Scene, support::Result};

/// So many at once: two cores can do no more in time.
const AT_ONCE: usize = 7;

macro_rules! scenes {
    ($($name:ident = $module:ident::$play:ident,)*) => {
        /// What is broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Broken {
            $($name,)*
        }

        fn all() -> Vec<(Broken, LocalBoxFuture<'static, Result<Scene>>)> {
            vec![$((Broken::$name, $module::$play().boxed_local()),)*]
        }
    };
}

// Those that take longest first.
scenes! {
    ValueTooOld = rotations::overdue,
    ManagerThrottles = managers::throttled,
    ManagerDown = managers::down,
    ValueTakenBack = rotations::rolled_back,
    LeaseEnded = leases::lost,
    LeaseUnrenewed = leases::near_end,
    PolicyTakenBack = managers::denied,
    WorkloadFails = rotations::halted,
    PatchRefused = rotations::refused,
    CandidateFails = rotations::rejected,
    LeaseKept = leases::left_to_end,
    LeaseOfAnother = operators::leaderless,
    OperatorDead = operators::dead,
    OperatorPanics = operators::faulty,
    IdentityIsNew = identities::new,
}

type Played = BTreeMap<Broken, std::result::Result<Scene, String>>;

async fn play() -> Played {
    let playing = all().into_iter().map(|(broken, scene)| async move {
        let result = match AssertUnwindSafe(scene).catch_unwind().await {
            Ok(result) => result.map_err(|error| format!("{error:#}")),
            Err(_) => Err("it panicked".to_owned()),
        };
        (broken, result)
    });
    stream::iter(playing).buffer_unordered(AT_ONCE).collect().await
}

async fn played() -> &'static Played {
    static PLAYED: OnceCell<Played> = OnceCell::const_new();
    PLAYED.get_or_init(play).await
}

/// What was answered before and after this broke.
pub async fn scene(broken: Broken) -> Result<&'static Scene> {
    let scene = played().await.get(&broken).ok_or_else(|| anyhow!("nobody played {broken:?}"))?;
    scene.as_ref().map_err(|error| anyhow!("{broken:?}: {error}"))
}

/// All of them.
pub async fn every_scene() -> Result<BTreeMap<Broken, &'static Scene>> {
    let mut scenes = BTreeMap::new();
    for broken in played().await.keys() {
        scenes.insert(*broken, scene(*broken).await?);
    }
    Ok(scenes)
}
