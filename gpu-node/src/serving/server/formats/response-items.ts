import type { FinishReason } from '@copal/shared/wire/chat.ts'
import type { OutputEvent, OutputItem, OutputMessage } from '@copal/shared/wire/response-object.ts'
import { newCallId } from './tool-call-id.ts'
import { createToolCallReader, type OutputPiece } from './tool-call-reader.ts'

/** Splits the output of one generation into the items of a response, in order. */
export interface OutputItems {
  /** Adds output text and returns the events that it causes. */
  write(text: string): OutputEvent[]
  /** Ends the output and returns the last events. */
  end(reason: FinishReason): OutputEvent[]
  readonly items: readonly OutputItem[]
}

/**
 * Creates the items of a response: a message with one text part, function calls, or both. Only the last item is open.
 * Output without text or calls gives an empty message.
 *
 * @param id id of the response without prefix; the ids of its items contain it
 * @param callsTools whether tool calls are read from the text
 */
export function createOutputItems(id: string, callsTools: boolean): OutputItems {
  const reader = callsTools ? createToolCallReader() : undefined
  const items: OutputItem[] = []
  let isOpen = false

  const positionOf = (item: OutputItem) => ({ item_id: item.id, output_index: items.length - 1 })

  const open = (item: OutputItem): OutputEvent[] => {
    const before = close('completed')
    items.push(item)
    isOpen = true
    const { output_index } = positionOf(item)
    const added: OutputEvent = { type: 'response.output_item.added', output_index, item: asAdded(item) }
    if (item.type === 'function_call') return [...before, added]
    const part = textPart('')
    return [
      ...before,
      added,
      { type: 'response.content_part.added', ...positionOf(item), content_index: 0, part },
    ]
  }

  const close = (status: OutputItem['status']): OutputEvent[] => {
    const item = items.at(-1)
    if (!item || !isOpen) return []
    isOpen = false
    item.status = status
    const at = positionOf(item)
    const done: OutputEvent = {
      type: 'response.output_item.done',
      output_index: at.output_index,
      item: { ...item },
    }
    if (item.type === 'function_call')
      return [{ type: 'response.function_call_arguments.done', ...at, arguments: item.arguments }, done]
    const part = item.content[0] as OutputMessage['content'][number]
    return [
      { type: 'response.output_text.done', ...at, content_index: 0, text: part.text, logprobs: [] },
      { type: 'response.content_part.done', ...at, content_index: 0, part },
      done,
    ]
  }

  const addPiece = (piece: OutputPiece): OutputEvent[] => {
    if (piece.kind === 'call') {
      const { call, name } = piece
      return open({
        id: `fc_${id}_${call}`,
        type: 'function_call',
        status: 'in_progress',
        call_id: newCallId(),
        name,
        arguments: '',
      })
    }
    const { text } = piece
    const last = items.at(-1)
    if (piece.kind === 'arguments') {
      if (last?.type !== 'function_call') throw new Error('arguments arrived before their call')
      last.arguments += text
      return [{ type: 'response.function_call_arguments.delta', ...positionOf(last), delta: text }]
    }
    const events = last?.type === 'message' ? [] : open(emptyMessage(`msg_${id}`))
    const message = items.at(-1) as OutputMessage
    message.content = [textPart((message.content[0]?.text ?? '') + text)]
    if (text === '') return events
    const delta = { ...positionOf(message), content_index: 0, delta: text, logprobs: [] }
    return [...events, { type: 'response.output_text.delta', ...delta }]
  }

  return {
    items,
    write(text) {
      if (text === '') return []
      return (reader ? reader.push(text) : [{ kind: 'content' as const, text }]).flatMap(addPiece)
    },
    end(reason) {
      const rest = (reader?.end() ?? []).flatMap(addPiece)
      if (items.length === 0) rest.push(...addPiece({ kind: 'content', text: '' }))
      return [...rest, ...close(reason === 'length' ? 'incomplete' : 'completed')]
    },
  }
}

/** Returns a new item as its `added` event shows it: a message without its text part, a function call as it is. */
function asAdded(item: OutputItem): OutputItem {
  return item.type === 'message' ? { ...item, content: [] } : { ...item }
}

function emptyMessage(id: string): OutputMessage {
  return { id, type: 'message', status: 'in_progress', role: 'assistant', content: [textPart('')] }
}

function textPart(text: string): OutputMessage['content'][number] {
  return { type: 'output_text', text, annotations: [], logprobs: [] }
}
