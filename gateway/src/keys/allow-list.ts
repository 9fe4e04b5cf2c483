import { AppError } from '@copal/shared/errors.ts'

/**
 * Checks that a key may use a model or a domain.
 *
 * @param allowed null allows all
 * @throws AppError `insufficient_permissions` with `param`, which lists the allowed ones
 */
export function requireAllowed(
  allowed: readonly string[] | null,
  name: string,
  what: 'model' | 'domain',
  param: string,
): void {
  if (allowed === null || allowed.includes(name)) return
  throw new AppError(
    'insufficient_permissions',
    `This key may not use the ${what} '${name}'. Allowed: ${allowed.map((one) => `'${one}'`).join(', ')}.`,
    { param },
  )
}
