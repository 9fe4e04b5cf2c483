import { partialMatchLength } from '../../engine/text-stream.ts'
import { CALL_BEGIN, CALL_END } from '../../grammar/tool-grammar.ts'

/** A piece of output that may call tools. Calls are numbered from 0. */
export type OutputPiece =
  | { kind: 'content'; text: string }
  | { kind: 'call'; call: number; name: string }
  | { kind: 'arguments'; call: number; text: string }

/** Splits output into content and tool calls while it is generated. */
export interface ToolCallReader {
  push(text: string): OutputPiece[]
  /** Ends the output, which may be truncated, and returns the last pieces. */
  end(): OutputPiece[]
  /** Number of calls whose name was read so far. */
  readonly calls: number
  /** Whether the next text is content, as far as is known. */
  readonly inContent: boolean
}

/** The text between the marker of a call and its arguments. */
const HEAD = /^\n\{"name": ("(?:[^"\\]|\\.)*"), "arguments": /
/** The text after the arguments. It cannot occur within them, because JSON strings contain no line breaks. */
const TAIL = `}\n${CALL_END}`

/** Creates a reader of output that follows the tool grammar. Text that may be the start of a marker is held back. */
export function createToolCallReader(): ToolCallReader {
  let state: 'content' | 'head' | 'arguments' | 'between' = 'content'
  let held = ''
  let calls = 0
  let written = ''

  /** Parses the next pieces; undefined when more text is needed. */
  const parseNext = (): OutputPiece[] | undefined => {
    if (state === 'content') {
      const mark = held.indexOf(CALL_BEGIN)
      if (mark >= 0) {
        const text = held.slice(0, mark).trimEnd()
        held = held.slice(mark + CALL_BEGIN.length)
        state = 'head'
        return text === '' ? [] : [{ kind: 'content', text }]
      }
      const text = held.slice(0, held.length - heldBackLength(held))
      held = held.slice(text.length)
      return text === '' ? undefined : [{ kind: 'content', text }]
    }
    if (state === 'head') {
      const head = HEAD.exec(held)
      if (!head) return undefined
      held = held.slice(head[0].length)
      state = 'arguments'
      written = ''
      return [{ kind: 'call', call: calls++, name: JSON.parse(head[1] as string) as string }]
    }
    if (state === 'arguments') {
      const tail = held.indexOf(TAIL)
      const text =
        tail >= 0 ? held.slice(0, tail) : held.slice(0, held.length - partialMatchLength(held, [TAIL]))
      held = held.slice(text.length)
      if (tail >= 0) {
        held = held.slice(TAIL.length)
        state = 'between'
      } else if (text === '') return undefined
      written += text
      return text === '' ? [] : [{ kind: 'arguments', call: calls - 1, text }]
    }
    const mark = held.indexOf(CALL_BEGIN)
    if (mark < 0) return undefined
    held = held.slice(mark + CALL_BEGIN.length)
    state = 'head'
    return []
  }

  const parseAll = (): OutputPiece[] => {
    const pieces: OutputPiece[] = []
    for (let next = parseNext(); next; next = parseNext()) pieces.push(...next)
    return pieces
  }

  return {
    push(text) {
      held += text
      return parseAll()
    },
    end() {
      const pieces = parseAll()
      if (held === '') return pieces
      if (state === 'content') pieces.push({ kind: 'content', text: held })
      // A final brace belongs to the arguments, unless they are complete without it: then it closes the call.
      else if (state === 'arguments' && held === '}' && !isJson(written))
        pieces.push({ kind: 'arguments', call: calls - 1, text: held })
      held = ''
      return pieces
    },
    get calls() {
      return calls
    },
    get inContent() {
      return state === 'content'
    },
  }
}

/** Returns how many characters at the end of content may begin a call: part of the marker, and white space before it. */
function heldBackLength(text: string): number {
  const mark = partialMatchLength(text, [CALL_BEGIN])
  const before = text.slice(0, text.length - mark)
  return mark + before.length - before.trimEnd().length
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}
