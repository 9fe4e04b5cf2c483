import { AppError } from '@copal/shared/errors.ts'

/** Which orders of the calibrated domains are played through: every one, as many drawn by the seed, or the given one. */
export type PermutationChoice = 'all' | 'first' | number

/** 5040 orders and 127 sets of domains; what is more is asked for by number. */
const MAX_DOMAINS_FOR_ALL = 7

/**
 * The orders of `names`, each once; the given one comes first. Of no names there are none.
 *
 * @throws AppError `invalid_request` for all orders of more than seven, or more orders than there are
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
      `${names.length} domains have too many orders to play all. Draw some: --permutations 20.`,
      { param: 'permutations' },
    )
  }
  const possible = names.reduce((product, _, index) => product * (index + 1), 1)
  if (choice > possible) {
    throw new AppError(
      'invalid_request',
      `${names.length} domains have ${possible} orders, ${choice} were asked for. Ask for fewer, or all.`,
      { param: 'permutations' },
    )
  }
  const drawn = new Map([[names.join(), [...names]]])
  while (drawn.size < choice) {
    const order = shuffled(names, random)
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

/** Fisher-Yates. */
function shuffled(names: readonly string[], random: () => number): string[] {
  const order = [...names]
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    ;[order[i], order[j]] = [order[j] as string, order[i] as string]
  }
  return order
}
