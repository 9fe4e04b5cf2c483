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

/** `a, b,c` as its parts. */
export function splitList(text: string): string[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
}
