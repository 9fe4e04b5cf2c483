import { AppError } from '@copal/shared/errors.ts'

/** ONNX Runtime execution providers that the decoder graph is made for. */
const PROVIDERS = ['cpu', 'cuda', 'webgpu'] as const
export type ExecutionProvider = (typeof PROVIDERS)[number]

/**
 * The provider called `name`.
 *
 * @throws AppError `invalid_request` with the known ones
 */
export function parseExecutionProvider(name: string): ExecutionProvider {
  const provider = PROVIDERS.find((known) => known === name)
  if (provider) return provider
  throw new AppError(
    'invalid_request',
    `Unknown execution provider '${name}', expected one of ${PROVIDERS.join(', ')}. Set COPAL_PROVIDER.`,
    { param: 'provider' },
  )
}
