import { describe, expect, test } from 'vitest'
import type { OutputEvent } from '@copal/shared/wire/response-object.ts'
import { createOutputItems } from '../../../../../gpu-node/src/serving/server/formats/response-items.ts'

const CALL = (name: string, args: string) =>
  `<tool_call>\n{"name": "${name}", "arguments": ${args}}\n</tool_call>`

/** Returns the events and items of a text that arrives in pieces of `size` characters. */
function play(
  text: string,
  options: { size?: number; reason?: 'stop' | 'length'; callsTools?: boolean } = {},
) {
  const { size = text.length || 1, reason = 'stop', callsTools = true } = options
  const output = createOutputItems('1', callsTools)
  const events: OutputEvent[] = []
  for (let at = 0; at < text.length; at += size) events.push(...output.write(text.slice(at, at + size)))
  events.push(...output.end(reason))
  return { events, items: output.items }
}

/** Summarises events, and joins the deltas of one item. */
function told(events: readonly OutputEvent[]): string[] {
  const lines: string[] = []
  let joined = ''
  for (const event of events) {
    if ('delta' in event) {
      joined += event.delta
      continue
    }
    if (joined !== '') lines.push(`${lines.length > 0 ? 'delta ' : ''}${joined}`)
    joined = ''
    lines.push(`${event.type.replace('response.', '')} ${event.output_index}`)
  }
  return lines
}

describe('the items of a response', () => {
  test('are a message for text, with events from its start to its end', () => {
    const { events, items } = play('hello there', { size: 3, callsTools: false })
    expect(told(events)).toEqual([
      'output_item.added 0',
      'content_part.added 0',
      'delta hello there',
      'output_text.done 0',
      'content_part.done 0',
      'output_item.done 0',
    ])
    expect(events[0]).toMatchObject({ item: { id: 'msg_1', status: 'in_progress', content: [] } })
    expect(items).toEqual([
      {
        id: 'msg_1',
        type: 'message',
        role: 'assistant',
        status: 'completed',
        content: [{ type: 'output_text', text: 'hello there', annotations: [], logprobs: [] }],
      },
    ])
  })

  test('are text followed by calls, each closed before the next is opened, for pieces of any size', () => {
    const text = `So:\n${CALL('weather', '{"city": "Oslo"}')}\n${CALL('clock', '{}')}`
    for (const size of [1, 5, text.length]) {
      const { events, items } = play(text, { size })
      expect(told(events)).toEqual([
        'output_item.added 0',
        'content_part.added 0',
        'delta So:',
        'output_text.done 0',
        'content_part.done 0',
        'output_item.done 0',
        'output_item.added 1',
        'delta {"city": "Oslo"}',
        'function_call_arguments.done 1',
        'output_item.done 1',
        'output_item.added 2',
        'delta {}',
        'function_call_arguments.done 2',
        'output_item.done 2',
      ])
      expect(items).toMatchObject([
        { type: 'message', status: 'completed', content: [{ text: 'So:' }] },
        { id: 'fc_1_0', name: 'weather', arguments: '{"city": "Oslo"}', status: 'completed' },
        { id: 'fc_1_1', name: 'clock', arguments: '{}', status: 'completed' },
      ])
      const calls = items.flatMap((item) => (item.type === 'function_call' ? [item.call_id] : []))
      expect(new Set(calls).size).toBe(2)
      for (const id of calls) expect(id).toMatch(/^call_[0-9a-f]{24}$/)
      const opened = events.filter((event) => event.type === 'response.output_item.added')
      expect(opened[1]).toMatchObject({
        item: { call_id: calls[0], arguments: '', status: 'in_progress', name: 'weather' },
      })
    }
  })

  test('contain no message when the output is only calls', () => {
    expect(play(CALL('clock', '{}')).items.map(({ type }) => type)).toEqual(['function_call'])
  })

  test('mark a truncated item as incomplete, and the items before it as completed', () => {
    const cut = `${CALL('clock', '{}')}\n<tool_call>\n{"name": "weather", "arguments": {"ci`
    expect(play(cut, { reason: 'length' }).items).toMatchObject([
      { name: 'clock', status: 'completed' },
      { name: 'weather', status: 'incomplete', arguments: '{"ci' },
    ])
    expect(play('hel', { reason: 'length' }).items).toMatchObject([{ type: 'message', status: 'incomplete' }])
  })

  test('are one empty message for no text, and keep call markers as text when no tool may be called', () => {
    expect(play('').items).toMatchObject([{ type: 'message', content: [{ text: '' }] }])
    const text = CALL('clock', '{}')
    expect(play(text, { callsTools: false }).items).toMatchObject([{ type: 'message', content: [{ text }] }])
  })
})
