//! Which images to take when a budget does not hold them all, layers counted once.
//!
//! An image counts when all its layers are there: the set-union knapsack problem (Goldschmidt, Nehme
//! and Yu 1994; prediction section 3.2). Greedy by value per byte not yet there gives a choice
//! (Arulselvan 2014), branch and bound betters it, and proves it best where its work suffices.
//!
//! The bound relaxes each layer's bytes to equal shares of the images that may still bring it. A set
//! of images has no more bytes in shares than in layers, so the fractional knapsack of the shares
//! (Dantzig 1957) holds at least the value of every choice that fits. What shares no layer has exactly
//! its own bytes: between components of shared layers the bound is the plain fractional one.

#[cfg(test)]
mod tests;

/// One image that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Worth of having it whole, at least 0, finite.
    pub value: f64,
    /// Its layers that are not there, as indices of [`Problem::sizes`], each once.
    pub layers: Vec<usize>,
}

/// Images that want room.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// In the order of transfer.
    pub candidates: &'a [Candidate],
    /// Bytes per layer.
    pub sizes: &'a [u64],
    /// Bytes that may be taken.
    pub budget: u64,
}

/// What is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Per candidate.
    pub taken: Vec<bool>,
    /// Sum of their values.
    pub value: f64,
    /// No choice within the budget is worth more.
    pub bound: f64,
}

/// Looks at a candidate's layer that one search may take: it bounds the time of a node's plan, and the
/// greedy choice with its bound stands where it does not suffice.
const WORK: usize = 50_000;

/// Of so many candidates the greedy choice recounts what each would add after every one it takes; of
/// more it takes them by their shares, in one pass.
const RECOUNTED: usize = 256;

/// The best choice that is found: never over the budget, never worth less than filling in order.
#[must_use]
pub fn choose(problem: Problem<'_>) -> Choice {
    let search = Search::new(problem, WORK);
    let plain = search.filled(0..problem.candidates.len());
    let shared = search.filled(search.order.iter().copied());
    let mut best = [greedy(problem), shared]
        .into_iter()
        // The plain one stays where nothing is better: a plan is not turned around for nothing.
        .fold(plain, |best, other| {
            if other.value > best.value { other } else { best }
        });
    best.bound = search.run(&mut best).max(best.value);
    best
}

/// Takes the image with the most value per byte that it adds, again and again while one fits.
#[must_use]
pub fn greedy(problem: Problem<'_>) -> Choice {
    let count = problem.candidates.len();
    let mut room = Room::new(problem);
    let mut choice = Choice::nothing(count);
    if count > RECOUNTED {
        return choice;
    }
    loop {
        let open = (0..count).filter(|at| !choice.taken[*at]);
        let fitting = open.filter_map(|at| {
            let candidate = &problem.candidates[at];
            let bytes = room.adds(candidate);
            (bytes <= room.left).then(|| (at, candidate.value / bytes.max(1) as f64))
        });
        // Of equals the first in order.
        let best = fitting.reduce(|a, b| if b.1 > a.1 { b } else { a });
        let Some((at, _)) = best else { break };
        room.put(&problem.candidates[at]);
        choice.take(at, problem.candidates[at].value);
    }
    choice
}

/// Which layers are taken, and what is left.
struct Room<'a> {
    sizes: &'a [u64],
    /// Images taken that have the layer.
    holders: Vec<u32>,
    left: u64,
}

/// Branch and bound over the candidates in one order.
struct Search<'a> {
    problem: Problem<'a>,
    order: Vec<usize>,
    work: usize,
}

/// Where the search is.
struct Branch<'a> {
    room: Room<'a>,
    taken: Vec<bool>,
    value: f64,
    /// Looks that are left.
    work: usize,
    /// The most that anything not looked into may be worth.
    unseen: f64,
}

// === impl Choice ===

impl Choice {
    fn nothing(count: usize) -> Self {
        Self {
            taken: vec![false; count],
            value: 0.0,
            bound: f64::INFINITY,
        }
    }

    fn take(&mut self, at: usize, value: f64) {
        self.taken[at] = true;
        self.value += value;
    }
}

// === impl Room ===

impl<'a> Room<'a> {
    fn new(problem: Problem<'a>) -> Self {
        Self {
            sizes: problem.sizes,
            holders: vec![0; problem.sizes.len()],
            left: problem.budget,
        }
    }

    fn missing(&self, candidate: &'a Candidate) -> impl Iterator<Item = usize> {
        let layers = candidate.layers.iter().copied();
        layers.filter(|layer| self.holders[*layer] == 0)
    }

    /// Bytes that it would add.
    fn adds(&self, candidate: &'a Candidate) -> u64 {
        let bytes = self.missing(candidate).map(|layer| self.sizes[layer]);
        bytes.fold(0, u64::saturating_add)
    }

    /// Takes what was seen to fit.
    fn put(&mut self, candidate: &'a Candidate) {
        self.left -= self.adds(candidate);
        for layer in &candidate.layers {
            self.holders[*layer] += 1;
        }
    }

    fn take_out(&mut self, candidate: &'a Candidate) {
        for layer in &candidate.layers {
            self.holders[*layer] -= 1;
        }
        self.left += self.adds(candidate);
    }
}

// === impl Search ===

impl<'a> Search<'a> {
    /// Densest by its shares first; of equals the first in order.
    fn new(problem: Problem<'a>, work: usize) -> Self {
        let mut search = Self {
            problem,
            order: (0..problem.candidates.len()).collect(),
            work,
        };
        let shares = search.shares(&Room::new(problem), &search.order);
        let mut order: Vec<(usize, f64)> = search
            .order
            .iter()
            .zip(&shares)
            .map(|(at, share)| (*at, problem.candidates[*at].value / share.max(1.0)))
            .collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        search.order = order.into_iter().map(|(at, _)| at).collect();
        search
    }

    /// Takes one after the other what fits.
    fn filled(&self, order: impl Iterator<Item = usize>) -> Choice {
        let candidates = self.problem.candidates;
        let mut room = Room::new(self.problem);
        let mut choice = Choice::nothing(candidates.len());
        for at in order {
            if room.adds(&candidates[at]) <= room.left {
                room.put(&candidates[at]);
                choice.take(at, candidates[at].value);
            }
        }
        choice
    }

    /// Betters `best` where it can; returns what nothing is worth more than.
    fn run(&self, best: &mut Choice) -> f64 {
        let mut branch = Branch {
            room: Room::new(self.problem),
            taken: vec![false; self.order.len()],
            value: 0.0,
            work: self.work,
            unseen: 0.0,
        };
        let root = self.bound(&branch.room, 0);
        self.descend(&mut branch, best, 0);
        branch.unseen.max(best.value).min(root)
    }

    fn descend(&self, branch: &mut Branch<'a>, best: &mut Choice, depth: usize) {
        if branch.value > best.value {
            best.taken.clone_from(&branch.taken);
            best.value = branch.value;
        }
        if depth == self.order.len() {
            return;
        }
        let most = branch.value + self.bound(&branch.room, depth);
        // Sums in another order differ in their last digits.
        if most <= best.value * (1.0 + 1e-12) {
            return;
        }
        let open = self.order[depth..].iter();
        let looks: usize = open
            .map(|at| self.problem.candidates[*at].layers.len())
            .sum();
        if branch.work < looks {
            branch.work = 0;
            branch.unseen = branch.unseen.max(most);
            return;
        }
        branch.work -= looks;
        let at = self.order[depth];
        let candidate = &self.problem.candidates[at];
        if branch.room.adds(candidate) <= branch.room.left {
            let before = branch.value;
            branch.room.put(candidate);
            branch.taken[at] = true;
            branch.value += candidate.value;
            self.descend(branch, best, depth + 1);
            branch.value = before;
            branch.taken[at] = false;
            branch.room.take_out(candidate);
        }
        self.descend(branch, best, depth + 1);
    }

    /// The most that the candidates from `depth` on may add: the fractional knapsack of their shares.
    fn bound(&self, room: &Room<'a>, depth: usize) -> f64 {
        let candidates = self.problem.candidates;
        let open = self.order[depth..].iter().copied();
        let fitting: Vec<usize> = open
            .filter(|at| room.adds(&candidates[*at]) <= room.left)
            .collect();
        let shares = self.shares(room, &fitting);
        let mut parts: Vec<(f64, f64)> = fitting
            .iter()
            .zip(shares)
            .map(|(at, share)| (candidates[*at].value, share))
            .collect();
        let density = |(value, share): &(f64, f64)| value / share.max(f64::MIN_POSITIVE);
        parts.sort_by(|a, b| density(b).total_cmp(&density(a)));
        let mut left = room.left as f64;
        let mut sum = 0.0;
        for (value, share) in parts {
            let part = if share <= left { 1.0 } else { left / share };
            sum += value * part;
            left -= share * part;
            if part < 1.0 {
                break;
            }
        }
        // Never less than an exact sum for the rounding of the shares.
        sum * (1.0 + 1e-9)
    }

    /// Bytes that each of some candidates adds, a layer's bytes shared by those of them that have it.
    fn shares(&self, room: &Room<'a>, some: &[usize]) -> Vec<f64> {
        let candidates = self.problem.candidates;
        let mut users = vec![0_u32; self.problem.sizes.len()];
        for at in some {
            for layer in &candidates[*at].layers {
                users[*layer] += 1;
            }
        }
        let share = |layer: usize| self.problem.sizes[layer] as f64 / f64::from(users[layer]);
        some.iter()
            .map(|at| room.missing(&candidates[*at]).map(share).sum())
            .collect()
    }
}
