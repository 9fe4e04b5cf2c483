import { Template } from '@huggingface/jinja'
import { AppError } from '@copal/shared/errors.ts'

/** The tokens that a chat template may write. */
export interface TemplateTokens {
  bosToken: string
  eosToken: string
}

/**
 * Compiles a model's chat template (Jinja, with the settings that Transformers uses).
 *
 * @param template `null` for a model without one: rendering then throws AppError `invalid_request`
 * @returns renders messages up to where the assistant's answer starts; throws AppError `invalid_request`
 * with the template's own words when it refuses the conversation (roles that must alternate)
 */
export function createChatTemplate(
  template: string | null,
  tokens: TemplateTokens,
  source: string,
): (messages: readonly { role: string; content: string }[]) => string {
  if (template === null) {
    return () => {
      throw new AppError(
        'invalid_request',
        'This model has no chat template, so it cannot answer conversations. Send the prompt to /v1/completions.',
      )
    }
  }
  const compiled = compile(template, source)
  return (messages) => {
    try {
      return compiled.render({
        messages,
        add_generation_prompt: true,
        bos_token: tokens.bosToken,
        eos_token: tokens.eosToken,
      })
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
  }
}

function compile(template: string, source: string): Template {
  try {
    return new Template(template)
  } catch (cause) {
    throw new AppError('unsupported_model', `${source}: the chat template cannot be compiled.`, { cause })
  }
}
