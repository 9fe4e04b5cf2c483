/** The value of `gen_ai.provider.name`. */
export const PROVIDER = 'copal'

/** The values of `gen_ai.operation.name` that a node serves. */
export type Operation = 'chat' | 'text_completion' | 'embeddings'

/** Returns the operation of a route of the node RPC; the Responses API is a chat, too. */
export function operationOf(route: string): Operation {
  if (route.endsWith('/embeddings')) return 'embeddings'
  return route.endsWith('/rpc/completions') ? 'text_completion' : 'chat'
}
