import { setImmediate as nextTurn } from 'node:timers/promises'
import { WrittenArray } from '../formats/as-written.ts'

/** Longest time that writing occupies the event loop before it yields: streams stand still meanwhile. */
const TURN_MS = 4
/** Short elements of an array that are written at once: those with twenty log-probabilities take a few milliseconds. */
const PIECE_ELEMENTS = 64

/** Returns the text that `JSON.stringify` returns for an object or an array. Large ones are written in pieces. */
export async function jsonInTurns(value: object): Promise<string> {
  const pieces: string[] = []
  let turnMs = performance.now()
  for (const piece of piecesOf(value)) {
    pieces.push(piece)
    if (performance.now() - turnMs < TURN_MS) continue
    await nextTurn()
    turnMs = performance.now()
  }
  return pieces.join('')
}

function* piecesOf(value: unknown): Generator<string, void, undefined> {
  if (Array.isArray(value)) yield* piecesOfArray(value)
  else if (value instanceof WrittenArray) yield* piecesOfWrittenArray(value)
  else if (hasOwnForm(value)) yield* piecesOf(value.toJSON(''))
  else if (typeof value === 'object' && value !== null) yield* piecesOfObject(value)
  else yield JSON.stringify(value) ?? 'null'
}

function hasOwnForm(value: unknown): value is { toJSON: (key: string) => unknown } {
  return (
    typeof value === 'object' && value !== null && 'toJSON' in value && typeof value.toJSON === 'function'
  )
}

function* piecesOfArray(values: readonly unknown[]): Generator<string, void, undefined> {
  yield '['
  let from = 0
  while (from < values.length) {
    if (from > 0) yield ','
    const element = values[from]
    if (hasLongForm(element)) {
      yield* piecesOf(element)
      from += 1
      continue
    }
    let to = from + 1
    while (to < Math.min(from + PIECE_ELEMENTS, values.length) && !hasLongForm(values[to])) to += 1
    yield withoutBrackets(values.slice(from, to))
    from = to
  }
  yield ']'
}

/** Returns whether an element of an array may be long: one with a form of its own is short. */
function hasLongForm(element: unknown): boolean {
  if (element instanceof WrittenArray) return true
  return typeof element === 'object' && element !== null && !hasOwnForm(element)
}

function* piecesOfWrittenArray(values: WrittenArray): Generator<string, void, undefined> {
  yield '['
  for (let from = 0; from < values.length; from += PIECE_ELEMENTS) {
    if (from > 0) yield ','
    yield withoutBrackets(values.slice(from, Math.min(from + PIECE_ELEMENTS, values.length)))
  }
  yield ']'
}

function withoutBrackets(values: readonly unknown[]): string {
  return JSON.stringify(values).slice(1, -1)
}

function* piecesOfObject(value: object): Generator<string, void, undefined> {
  yield '{'
  let separator = ''
  for (const [name, member] of Object.entries(value)) {
    if (member === undefined) continue
    yield `${separator}${JSON.stringify(name)}:`
    yield* piecesOf(member)
    separator = ','
  }
  yield '}'
}
