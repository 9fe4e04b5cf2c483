import {
  deletedDomain,
  deletedSamples,
  domainEntry,
  importedTexts,
  importTexts,
} from '@copal/shared/wire/admin.ts'
import { deletedSamples as sampleDeletion } from '@copal/shared/wire/admin-samples.ts'
import { generalHoldout } from '@copal/shared/wire/admin-holdout.ts'
import { domainName } from '@copal/shared/wire/inference-fields.ts'
import { listOf, named, type Operation } from './operation.ts'

/** Operations on the texts of domains and the general holdout. */
export const DOMAIN_OPERATIONS: readonly Operation[] = [
  {
    method: 'get',
    path: '/admin/domains',
    id: 'listDomains',
    tag: 'Adaptation',
    summary: 'Lists domains with their samples.',
    key: 'operator',
    query: { model: 'Id of the model for which new samples are counted. Default: the only model.' },
    response: listOf('Domain', domainEntry),
  },
  {
    method: 'post',
    path: '/admin/domains/{domain}/texts',
    id: 'importTexts',
    tag: 'Adaptation',
    summary: 'Adds texts to a domain. They are redacted and sampled like traffic.',
    key: 'operator',
    params: { domain: domainName },
    body: named('ImportTexts', importTexts),
    response: named('ImportedTexts', importedTexts),
    status: 201,
  },
  {
    method: 'delete',
    path: '/admin/domains/{domain}/samples',
    id: 'deleteSamples',
    tag: 'Adaptation',
    summary:
      'Deletes the texts of a key, a tenant or a request from a domain, including its frozen datasets and every version of its holdout; the next update calibrates on the remaining texts again. With several parameters: the texts that match all of them. A text that another request sent too stays for that one. Without a parameter: deletes all samples but no frozen texts. Queued samples that are deleted are not stored later. Responds 409 while an update runs that may read the texts: in any state but `canary`.',
    key: 'operator',
    params: { domain: domainName },
    query: {
      key: 'Id of the key. Default: all keys.',
      tenant: 'Name of the tenant. Default: all tenants.',
      request: 'Id of the request, as in its `x-request-id`. Default: all requests.',
    },
    response: named('DeletedSamples', deletedSamples),
    errors: ['not_found', 'conflict'],
  },
  {
    method: 'delete',
    path: '/admin/samples',
    id: 'deleteSamplesEverywhere',
    tag: 'Adaptation',
    summary:
      'Deletes the texts of a request, a key or a tenant in all domains; with several parameters, the texts that match all of them. A tenant administrator deletes texts of its own tenant. Samples are deleted at once; responds 202 where an update still reads frozen texts: repeat the call when it has ended.',
    key: 'admin',
    query: {
      request: 'Id of the request, as in its `x-request-id`.',
      key: 'Id of the key.',
      tenant: 'Name of the tenant.',
    },
    response: named('SampleDeletion', sampleDeletion),
    errors: ['invalid_request'],
  },
  {
    method: 'delete',
    path: '/admin/domains/{domain}',
    id: 'deleteDomain',
    tag: 'Adaptation',
    summary:
      'Deletes everything that is stored for a domain. Responds 404 for a domain that never had a text.',
    key: 'operator',
    params: { domain: domainName },
    response: named('DeletedDomain', deletedDomain),
    errors: ['not_found', 'conflict'],
  },
  {
    method: 'get',
    path: '/admin/holdout',
    id: 'getHoldout',
    tag: 'Adaptation',
    summary: 'Returns the size and version of the general holdout.',
    key: 'operator',
    response: named('GeneralHoldout', generalHoldout),
  },
  {
    method: 'put',
    path: '/admin/holdout',
    id: 'setHoldout',
    tag: 'Adaptation',
    summary:
      'Sets the general holdout, text of your own that every new mask is judged on: 1,024 to 32,768 tokens. It is redacted.',
    key: 'operator',
    body: named('ImportTexts', importTexts),
    response: named('GeneralHoldout', generalHoldout),
  },
  {
    method: 'delete',
    path: '/admin/holdout',
    id: 'deleteHoldout',
    tag: 'Adaptation',
    summary:
      'Deletes the general holdout with all its versions and the evaluations on them. Responds 409 while an update runs.',
    key: 'operator',
    response: named('GeneralHoldout', generalHoldout),
    errors: ['conflict'],
  },
]
