import { InvalidArgumentError } from 'commander'
import { AppError } from '@copal/shared/errors.ts'

/** A parser for an option's value: an AppError of it names the option, as Commander does. */
export function argument<T>(parse: (text: string, previous: T) => T): (text: string, previous: T) => T {
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
 * `a, b,c` as its parts.
 *
 * @throws InvalidArgumentError there are none
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
