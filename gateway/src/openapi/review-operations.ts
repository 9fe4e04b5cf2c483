import { reviewEntry, settledReview } from '@copal/shared/wire/admin-review.ts'
import { z } from 'zod'
import { listOf, named, operationsOf } from './operation.ts'

const settled = {
  params: { domain: z.string(), id: z.string() },
  response: named('SettledReview', settledReview),
  errors: ['not_found'],
} as const

/** Operations on texts that are set aside because their dense loss is far from that of their domain. */
export const REVIEW_OPERATIONS = operationsOf({ tag: 'Adaptation', key: 'operator' }, [
  {
    method: 'get',
    path: '/admin/domains/{domain}/review',
    id: 'listReview',
    summary: 'Lists texts of a domain that are set aside for review, at most 100, the highest loss first.',
    params: { domain: z.string() },
    response: listOf('ReviewText', reviewEntry),
    errors: ['not_found'],
  },
  {
    method: 'post',
    path: '/admin/domains/{domain}/review/{id}/keep',
    id: 'keepReviewed',
    summary: 'Puts a text that is set aside back for good.',
    ...settled,
  },
  {
    method: 'post',
    path: '/admin/domains/{domain}/review/{id}/drop',
    id: 'dropReviewed',
    summary: 'Deletes a text that is set aside.',
    ...settled,
  },
])
