import { Template } from '@huggingface/jinja'
import { AppError } from '@copal/shared/errors.ts'

/** Special tokens that a chat template may use. */
export interface TemplateTokens {
  bosToken: string
  eosToken: string
}

/** A message as templates read it. Tool calls and results are only for templates that support tools. */
export interface ChatTurn {
  role: string
  content: string
  tool_calls?: { id: string; type: string; function: { name: string; arguments: unknown } }[]
  tool_call_id?: string
}

/** Renders conversations. */
export interface ChatTemplate {
  /** Whether it describes tools to the model and has it call them as `<tool_call>` lines of JSON. */
  rendersTools: boolean
  /**
   * Renders the conversation up to the start of the assistant's message.
   *
   * @throws AppError `invalid_request`, with the template's own words when it refuses the conversation (roles that
   * must alternate), or when there is no template
   */
  render(messages: readonly ChatTurn[], tools?: readonly object[]): string
}

/**
 * Compiles a model's chat template (Jinja, with the settings that Transformers uses).
 *
 * @param template `null` for a model without one: rendering then throws
 * @throws AppError `unsupported_model` when it cannot be compiled
 */
export function createChatTemplate(
  template: string | null,
  { bosToken, eosToken }: TemplateTokens,
  source: string,
): ChatTemplate {
  if (template === null) {
    return {
      rendersTools: false,
      render() {
        throw new AppError(
          'invalid_request',
          'This model has no chat template, so it cannot answer conversations. Send the prompt to /v1/completions.',
        )
      },
    }
  }
  const compiled = compile(template, source)
  const render = (messages: readonly ChatTurn[], tools?: readonly object[]) =>
    compiled.render({
      messages,
      add_generation_prompt: true,
      bos_token: bosToken,
      eos_token: eosToken,
      ...(tools ? { tools } : {}),
    })
  return {
    rendersTools: rendersTools(render),
    render(messages, tools) {
      try {
        return render(messages, tools)
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause)
        throw new AppError(
          'invalid_request',
          `The model's chat template refuses this conversation: ${reason}`,
          {
            cause,
            param: 'messages',
          },
        )
      }
    },
  }
}

/** Probes whether a template supports tools, by rendering a tool, a call and its result; templates do not declare it. */
function rendersTools(render: ChatTemplate['render']): boolean {
  const name = 'probe_of_tools'
  const tool = {
    type: 'function',
    function: { name, description: name, parameters: { type: 'object', properties: {} } },
  }
  const call = { id: 'call_1', type: 'function', function: { name, arguments: { of_call: 1 } } }
  try {
    const described = render([{ role: 'user', content: 'a' }], [tool])
    const called = render(
      [
        { role: 'user', content: 'a' },
        { role: 'assistant', content: '', tool_calls: [call] },
        { role: 'tool', content: 'of_result', tool_call_id: 'call_1' },
      ],
      [tool],
    )
    return (
      described.includes(name) &&
      described.includes('<tool_call>') &&
      called.includes('of_call') &&
      called.includes('of_result')
    )
  } catch {
    return false
  }
}

function compile(template: string, source: string): Template {
  try {
    return new Template(template)
  } catch (cause) {
    throw new AppError('unsupported_model', `${source}: the chat template cannot be compiled.`, { cause })
  }
}
