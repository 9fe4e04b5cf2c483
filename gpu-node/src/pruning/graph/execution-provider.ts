import { AppError } from '@copal/shared/errors.ts'

/** The ONNX Runtime execution providers that support the decoder graph. */
const PROVIDERS = ['cpu', 'cuda', 'webgpu'] as const
export type ExecutionProvider = (typeof PROVIDERS)[number]

/**
 * Returns the provider called `name`.
 *
 * @throws AppError `invalid_request` that lists the known providers
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
