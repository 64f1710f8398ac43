//! What the search leaves out of its states cannot matter: a state that is brought into canonical form after every step
//! allows the same steps, and leads to the same violations, as one that never is.

use stateright::Model;

use crate::search::{FORK, MOVING, ONE, SPLIT};
use crate::state::Call;
use crate::world::World;

const WALKS: u64 = 200;
const STEPS: usize = 40;

/// Walks at random, the same way each time.
fn walk(world: World, seed: u64) {
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut canonical = world.init_states().remove(0);
    let mut plain = world.first(false);
    for _ in 0..STEPS {
        let actions = world.possible(&canonical);
        assert_eq!(actions, world.possible(&plain), "{plain:#?}\n{canonical:#?}");
        // Marsaglia's xorshift64.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let action = actions[(random >> 11) as usize % actions.len()];
        let taken = [world.take(&mut canonical, action), world.take(&mut plain, action)];
        assert_eq!(taken[0], taken[1], "{action:?}");
        if canonical.call == Call::Returned || canonical.violation.is_some() {
            return;
        }
        assert_eq!(canonical.violation, plain.violation, "{action:?}");
        canonical = canonical.canonical(&world);
    }
}

#[test]
fn a_state_in_canonical_form_does_the_same() {
    for world in
        [ONE, World { validators: 2, ..ONE }, MOVING, SPLIT, World { kills: true, crashes: true, restores: 2, ..FORK }]
    {
        (1..=WALKS).for_each(|seed| walk(world, seed));
    }
}
