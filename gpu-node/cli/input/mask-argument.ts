import { InvalidArgumentError } from 'commander'

/**
 * Parses a mask version as people write it: `3`, `m3`, `dense`.
 *
 * @throws InvalidArgumentError, which Commander shows with the argument's name
 */
export function parseMask(text: string): number {
  if (text === 'dense') return 0
  const match = /^m?(\d{1,9})$/.exec(text)
  if (!match) throw new InvalidArgumentError("A mask is a number like 3 or m3, or 'dense'.")
  return Number(match[1])
}

/** Returns `?model=…`, or an empty string. */
export function modelQuery(model: string | undefined): string {
  return model === undefined ? '' : `?model=${encodeURIComponent(model)}`
}
