import { shuffle } from '@copal/gpu-node/platform/seeded-random.ts'
import { AppError } from '@copal/shared/errors.ts'

/** Which orders of the calibrated domains to run: all, the given one, or a number of them drawn by the seed. */
export type PermutationChoice = 'all' | 'first' | number

/** Maximum number of domains for all orders: 5040 orders and 127 sets of domains. */
const MAX_DOMAINS_FOR_ALL = 7

/**
 * Chooses distinct orders of `names`; the given order comes first. No names have no orders.
 *
 * @throws AppError `invalid_request` for all orders of more than seven names, or more orders than exist
 */
export function choosePermutations(
  names: readonly string[],
  choice: PermutationChoice,
  random: () => number,
): string[][] {
  if (names.length === 0) return []
  if (choice === 'first') return [[...names]]
  if (choice === 'all') {
    if (names.length <= MAX_DOMAINS_FOR_ALL) return allPermutations(names)
    throw new AppError(
      'invalid_request',
      `${names.length} domains have too many orders to run all. Draw some of them, for example --permutations 20.`,
      { param: 'permutations' },
    )
  }
  const possible = names.reduce((product, _, index) => product * (index + 1), 1)
  if (choice > possible) {
    throw new AppError(
      'invalid_request',
      `${names.length} domains have only ${possible} orders, but ${choice} were requested. Request fewer, or all.`,
      { param: 'permutations' },
    )
  }
  const drawn = new Map([[names.join(), [...names]]])
  while (drawn.size < choice) {
    const order = shuffle(names, random)
    drawn.set(order.join(), order)
  }
  return [...drawn.values()]
}

function allPermutations(names: readonly string[]): string[][] {
  if (names.length === 0) return [[]]
  return names.flatMap((first, index) =>
    allPermutations(names.toSpliced(index, 1)).map((rest) => [first, ...rest]),
  )
}
