/** A run of groups of digits, as in `+49 (0)30 1234-5678`. */
export interface DigitRun {
  groups: readonly DigitGroup[]
}

/** A group of digits and where it stands. */
export interface DigitGroup {
  digits: string
  start: number
  end: number
}

/** Groups that belong together: from group `first` to group `last`. */
export interface Window {
  first: number
  last: number
  digits: string
}

/** Splits each run into its groups. Separators are matched by `between`, which must not match a digit. */
export function* digitRuns(text: string, between: RegExp): Generator<DigitRun> {
  let groups: DigitGroup[] = []
  for (const match of text.matchAll(/\d+/g)) {
    const end = match.index + match[0].length
    const last = groups.at(-1)
    // Longer gaps cannot be separators, and slicing them would cost as much as the text.
    if (
      last !== undefined &&
      (match.index - last.end > 4 || !between.test(text.slice(last.end, match.index)))
    ) {
      yield { groups }
      groups = []
    }
    groups.push({ digits: match[0], start: match.index, end })
  }
  if (groups.length > 0) yield { groups }
}

/**
 * Finds windows of a run that are accepted, from left to right, at each group the longest first. A window has at most
 * `maxGroups` groups and from `minDigits` to `maxDigits` digits, so a run takes time linear in its length.
 */
export function acceptedWindows(
  { groups }: DigitRun,
  { minDigits, maxDigits, maxGroups }: { minDigits: number; maxDigits: number; maxGroups: number },
  accept: (window: Window) => boolean,
): Window[] {
  const accepted: Window[] = []
  for (let first = 0; first < groups.length; first++) {
    const candidates: Window[] = []
    let digits = ''
    for (let last = first; last < Math.min(groups.length, first + maxGroups); last++) {
      const group = groups[last]?.digits ?? ''
      if (digits.length + group.length > maxDigits) break
      digits += group
      if (digits.length >= minDigits) candidates.push({ first, last, digits })
    }
    const found = candidates.reverse().find((window) => accept(window))
    if (found === undefined) continue
    accepted.push(found)
    first = found.last
  }
  return accepted
}
