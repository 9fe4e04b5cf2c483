import { describe, expect, test } from 'vitest'
import { AppError, errorBody, parseErrorBody, toAppError } from '@copal/shared/errors.ts'

describe('an error body', () => {
  test('is parsed back into the same error', () => {
    const error = new AppError('model_not_found', 'There is no such model.', { param: 'model' })
    const parsed = parseErrorBody(structuredClone(errorBody(error)))
    expect(parsed).toMatchObject({
      code: 'model_not_found',
      message: error.message,
      param: 'model',
      status: 404,
      retryable: false,
    })
  })

  test.each([
    null,
    'text',
    {},
    { error: null },
    { error: { code: 'no_such_code', message: 'm' } },
    { error: { code: 'overloaded' } },
    // Inherited properties of the table are not error codes.
    { error: { code: 'toString', message: 'm' } },
    { error: { code: 'constructor', message: 'm' } },
  ])('of another service is parsed as undefined: %j', (body) => {
    expect(parseErrorBody(body)).toBeUndefined()
  })
})

test('an unknown cause becomes a plain 500 whose message does not reveal it', () => {
  const cause = new Error('password of the database')
  const error = toAppError(cause)
  expect(error).toMatchObject({ code: 'internal_error', status: 500, cause })
  expect(JSON.stringify(errorBody(error))).not.toContain('password')
  expect(toAppError(error)).toBe(error)
})
