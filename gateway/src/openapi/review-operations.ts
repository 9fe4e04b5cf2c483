import { reviewEntry, settledReview } from '@copal/shared/wire/admin-review.ts'
import { z } from 'zod'
import { listOf, named, type Operation } from './operation.ts'

const settled = {
  key: 'operator',
  params: { domain: z.string(), id: z.string() },
  response: named('SettledReview', settledReview),
  errors: ['not_found'],
} as const

/** Operations on texts that are set aside because their dense loss is far from that of their domain. */
export const REVIEW_OPERATIONS: readonly Operation[] = [
  {
    method: 'get',
    path: '/admin/domains/{domain}/review',
    id: 'listReview',
    tag: 'Adaptation',
    summary: 'Lists texts of a domain that are set aside for review, at most 100, the highest loss first.',
    key: 'operator',
    params: { domain: z.string() },
    response: listOf('ReviewText', reviewEntry),
    errors: ['not_found'],
  },
  {
    method: 'post',
    path: '/admin/domains/{domain}/review/{id}/keep',
    id: 'keepReviewed',
    tag: 'Adaptation',
    summary: 'Puts a text that is set aside back for good.',
    ...settled,
  },
  {
    method: 'post',
    path: '/admin/domains/{domain}/review/{id}/drop',
    id: 'dropReviewed',
    tag: 'Adaptation',
    summary: 'Deletes a text that is set aside.',
    ...settled,
  },
]
