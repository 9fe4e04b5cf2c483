import { describe, expect, test } from 'vitest'
import {
  createToolCallReader,
  type OutputPiece,
} from '../../../../../gpu-node/src/serving/server/formats/tool-call-reader.ts'
import { createRandom } from '../../../../support/harness/random.ts'

const call = (name: string, text: string) =>
  `<tool_call>\n{"name": "${name}", "arguments": ${text}}\n</tool_call>`

interface Told {
  content: string
  calls: { name: string; arguments: string }[]
}

function toldBy(pieces: readonly OutputPiece[]): Told {
  const told: Told = { content: '', calls: [] }
  for (const piece of pieces) {
    if (piece.kind === 'content') {
      expect(told.calls, 'content comes before calls').toEqual([])
      told.content += piece.text
    } else if (piece.kind === 'call') {
      expect(piece.call).toBe(told.calls.length)
      told.calls.push({ name: piece.name, arguments: '' })
    } else {
      expect(piece.call).toBe(told.calls.length - 1)
      told.calls[piece.call]!.arguments += piece.text
    }
  }
  return told
}

/** Reads a text in pieces of random lengths. */
function read(text: string, seed: number): Told {
  const random = createRandom(seed)
  const reader = createToolCallReader()
  const pieces: OutputPiece[] = []
  for (let at = 0; at < text.length;) {
    const length = 1 + Math.floor(random() * 6)
    pieces.push(...reader.push(text.slice(at, at + length)))
    at += length
  }
  return toldBy([...pieces, ...reader.end()])
}

describe.each([1, 2, 3, 4, 5])('in pieces by seed %i', (seed) => {
  test('text without a call is content, whatever it resembles', () => {
    for (const text of ['', 'Hello.', ' a < b <tool_cal', '<tool_call', 'x\n\n', '}\n</tool_call>'])
      expect(read(text, seed)).toEqual({ content: text, calls: [] })
  })

  test('calls are read with name and arguments, and the white space before them is dropped', () => {
    const nested = '{"city": "Paris", "days": [1, {"a": "}\\n</tool_call>"}]}'
    expect(read(`Let me see. \n${call('weather', nested)}\n${call('time', '{}')}`, seed)).toEqual({
      content: 'Let me see.',
      calls: [
        { name: 'weather', arguments: nested },
        { name: 'time', arguments: '{}' },
      ],
    })
  })

  test('a truncated call gives its arguments so far, and a complete one no extra brace', () => {
    const whole = call('f', '{"a": {"b": 1}}')
    const head = '<tool_call>\n{"name": "f", "arguments": '.length
    for (let end = 0; end <= whole.length; end++) {
      const { content, calls } = read(whole.slice(0, end), seed)
      const told = { name: 'f', arguments: '{"a": {"b": 1}}'.slice(0, end - head) }
      expect({ end, content, calls }).toEqual({
        end,
        content: end < '<tool_call>'.length ? whole.slice(0, end) : '',
        calls: end < head ? [] : [told],
      })
    }
  })
})

test('content and arguments are returned as soon as they are certain', () => {
  const reader = createToolCallReader()
  expect(reader.push('I look ')).toEqual([{ kind: 'content', text: 'I look' }])
  expect(reader.push('it up')).toEqual([{ kind: 'content', text: ' it up' }])
  expect(reader.inContent).toBe(true)
  expect(reader.push('.<tool_call>\n{"name": "f", "arguments": {"a": "x')).toEqual([
    { kind: 'content', text: '.' },
    { kind: 'call', call: 0, name: 'f' },
    { kind: 'arguments', call: 0, text: '{"a": "x' },
  ])
  expect(reader.inContent).toBe(false)
  expect(reader.push('"')).toEqual([{ kind: 'arguments', call: 0, text: '"' }])
  expect(reader.push('}')).toEqual([])
  expect(reader.push('}\n')).toEqual([{ kind: 'arguments', call: 0, text: '}' }])
  expect(reader.calls).toBe(1)
})
