import { setImmediate as nextTurn } from 'node:timers/promises'

/** Longest time that writing occupies the event loop before it yields: streams stand still meanwhile. */
const TURN_MS = 4
/** Elements of an array that are written at once: those with twenty log-probabilities take a few milliseconds. */
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
  if (values.length > PIECE_ELEMENTS) {
    for (let from = 0; from < values.length; from += PIECE_ELEMENTS) {
      const piece = JSON.stringify(values.slice(from, from + PIECE_ELEMENTS)).slice(1, -1)
      yield from === 0 ? piece : `,${piece}`
    }
  } else {
    for (const [index, element] of values.entries()) {
      if (index > 0) yield ','
      yield* piecesOf(element)
    }
  }
  yield ']'
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
