import { InvalidArgumentError } from 'commander'
import { AppError } from '@copal/shared/errors.ts'

/**
 * Turns a function that throws AppErrors into a parser of an option's value, so that Commander names the option in the
 * error.
 */
export function parserOf<T>(parse: (text: string, previous: T) => T): (text: string, previous: T) => T {
  return (text, previous) => {
    try {
      return parse(text, previous)
    } catch (error) {
      if (error instanceof AppError) throw new InvalidArgumentError(error.message)
      throw error
    }
  }
}

/**
 * Parses `a, b,c` into its parts.
 *
 * @throws InvalidArgumentError when there is no part
 */
export function splitList(text: string): string[] {
  const parts = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
  if (parts.length === 0)
    throw new InvalidArgumentError('At least one is expected, with commas between several.')
  return parts
}

/** Parses a whole number of at most nine digits. */
export function wholeNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('A whole number is expected.')
  return Number(text)
}

/** Parses a whole number of at least 1. */
export function positiveNumber(text: string): number {
  const number = wholeNumber(text)
  if (number > 0) return number
  throw new InvalidArgumentError('At least 1 is expected.')
}

/** Parses the number of tokens of an evaluation window. */
export function windowTokens(text: string): number {
  const tokens = wholeNumber(text)
  if (tokens >= 2) return tokens
  throw new InvalidArgumentError('A window needs at least two tokens: the first one is only context.')
}
