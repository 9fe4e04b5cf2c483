import { CALL_BEGIN, CALL_END } from '../grammar/tool-grammar.ts'

/** A piece of an answer that may call tools, in order. Calls are numbered from 0. */
export type AnswerPiece =
  | { kind: 'content'; text: string }
  | { kind: 'call'; call: number; name: string }
  | { kind: 'arguments'; call: number; text: string }

/** Takes an answer apart while it is written. */
export interface ToolCallReader {
  push(text: string): AnswerPiece[]
  /** The answer is over, and may have been cut short. */
  end(): AnswerPiece[]
  /** Calls that were named so far. */
  readonly calls: number
  /** Whether what comes next is content, as far as can be told. */
  readonly inContent: boolean
}

/** What stands between the mark of a call and its arguments. */
const HEAD = /^\n\{"name": ("(?:[^"\\]|\\.)*"), "arguments": /
/** What stands behind the arguments: JSON has no line end in a string, so this is in no arguments. */
const TAIL = `}\n${CALL_END}`

/** A reader of answers that follow the tool grammar. Text that may turn out to be a mark is held back. */
export function createToolCallReader(): ToolCallReader {
  let state: 'content' | 'head' | 'arguments' | 'between' = 'content'
  let held = ''
  let calls = 0
  let written = ''

  /** One move; undefined when more text is needed. */
  const move = (): AnswerPiece[] | undefined => {
    if (state === 'content') {
      const mark = held.indexOf(CALL_BEGIN)
      if (mark >= 0) {
        const text = held.slice(0, mark).trimEnd()
        held = held.slice(mark + CALL_BEGIN.length)
        state = 'head'
        return text === '' ? [] : [{ kind: 'content', text }]
      }
      const text = held.slice(0, held.length - heldBackOfContent(held))
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
      const text = tail >= 0 ? held.slice(0, tail) : held.slice(0, held.length - beginningOf(TAIL, held))
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

  const moves = (): AnswerPiece[] => {
    const pieces: AnswerPiece[] = []
    for (let next = move(); next; next = move()) pieces.push(...next)
    return pieces
  }

  return {
    push(text) {
      held += text
      return moves()
    },
    end() {
      const pieces = moves()
      if (held === '') return pieces
      if (state === 'content') pieces.push({ kind: 'content', text: held })
      // A brace at the very end closes the arguments, unless they are whole without it: then it closed the call.
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

/** How much of the end of content may be the beginning of a call: its mark, and the space in front of it. */
function heldBackOfContent(text: string): number {
  const mark = beginningOf(CALL_BEGIN, text)
  const before = text.slice(0, text.length - mark)
  return mark + before.length - before.trimEnd().length
}

/** Length of the longest end of `text` that is a beginning of `mark`. */
function beginningOf(mark: string, text: string): number {
  for (let length = Math.min(mark.length - 1, text.length); length > 0; length--)
    if (text.endsWith(mark.slice(0, length))) return length
  return 0
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}
