import { createOwnMask, updateEntry } from '@copal/shared/wire/admin.ts'
import {
  changedDomain,
  deletedDomain,
  deletedSamples,
  domainPage,
  domainsQuery,
  importedTexts,
  importTexts,
  rebuiltDomain,
  removedOwnMask,
  setDomain,
} from '@copal/shared/wire/admin-domains.ts'
import { deletedSamples as sampleDeletion, sampleEntry } from '@copal/shared/wire/admin-samples.ts'
import { generalHoldout } from '@copal/shared/wire/admin-holdout.ts'
import { domainName } from '@copal/shared/wire/inference-fields.ts'
import { listOf, named, operationsOf } from './operation.ts'

/** Operations on the texts of domains and the general holdout. */
export const DOMAIN_OPERATIONS = operationsOf({ tag: 'Adaptation', key: 'operator' }, [
  {
    method: 'get',
    path: '/admin/domains',
    id: 'listDomains',
    summary: 'Lists domains with their samples; to a key of a tenant those that the tenant owns.',
    key: 'admin',
    querySchema: domainsQuery,
    response: named('DomainPage', domainPage),
  },
  {
    method: 'post',
    path: '/admin/domains/{domain}/texts',
    id: 'importTexts',
    summary: 'Adds texts to a domain. They are redacted and sampled like traffic.',
    params: { domain: domainName },
    body: named('ImportTexts', importTexts),
    response: named('ImportedTexts', importedTexts),
    status: 201,
    errors: ['conflict'],
  },
  {
    method: 'put',
    path: '/admin/domains/{domain}',
    id: 'setDomain',
    summary:
      'Sets the owner of a domain. Requests of other tenants are not counted in it from then on, and their samples are not stored there.',
    params: { domain: domainName },
    body: named('SetDomain', setDomain),
    response: named('ChangedDomain', changedDomain),
    errors: ['not_found'],
  },
  {
    method: 'post',
    path: '/admin/domains/{domain}/rebuild',
    id: 'rebuildDomain',
    summary:
      'Has the statistics of a domain made anew from the texts that are retained: what was calibrated does not count any more, and the next update may take every text of the reservoir. Responds 409 while an update runs that reads the statistics, or whose canary counts texts of the domain, and where more is left to do than one call can: repeat it to go on.',
    params: { domain: domainName },
    response: named('RebuiltDomain', rebuiltDomain),
    errors: ['not_found', 'conflict'],
  },
  {
    method: 'get',
    path: '/admin/domains/{domain}/samples',
    id: 'listSamples',
    summary:
      'Lists the 20 kept texts of a domain that requests brought last, newest first, with their redacted beginnings.',
    params: { domain: domainName },
    response: listOf('Sample', sampleEntry),
    errors: ['not_found'],
  },
  {
    method: 'delete',
    path: '/admin/domains/{domain}/samples',
    id: 'deleteSamples',
    summary:
      'Deletes the texts of a key, a tenant or a request from a domain, including its frozen datasets and every version of its holdout; the next update calibrates on the remaining texts again. With several parameters: the texts that match all of them. A text that another request sent too stays for that one. Without a parameter: deletes all samples but no frozen texts. Queued samples that are deleted are not stored later. Responds 409 while an update runs that may read the texts: in any state but `canary`.',
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
    summary:
      'Deletes the texts of a request, a key or a tenant in all domains; with several parameters, the texts that match all of them. A tenant administrator deletes texts of its own tenant. Samples are deleted at once; responds 202 where an update still reads frozen texts, or where domains and frozen texts are more than one call can look through: those are deleted when it has ended, or within the next minutes.',
    key: 'admin',
    query: {
      request: 'Id of the request, as in its `x-request-id`.',
      key: 'Id of the key.',
      tenant: 'Name of the tenant.',
    },
    response: named('SampleDeletion', sampleDeletion),
    accepted:
      'An update still reads frozen texts, or texts are left because one call cannot look through all. They are deleted later.',
    errors: ['invalid_request'],
  },
  {
    method: 'post',
    path: '/admin/domains/{domain}/mask',
    id: 'createOwnMask',
    summary:
      'Starts an update that makes a mask for one domain alone. It serves that domain if it is better there than the shared mask by `discovery.own_mask_gain`. Responds 409 unless `discovery.own_masks` is true and a mask is active.',
    params: { domain: domainName },
    body: named('CreateOwnMask', createOwnMask),
    response: named('Update', updateEntry),
    status: 201,
    errors: ['not_found', 'model_not_found', 'no_node_available', 'conflict', 'insufficient_samples'],
  },
  {
    method: 'delete',
    path: '/admin/domains/{domain}/mask',
    id: 'removeOwnMask',
    summary: 'Lets the shared mask serve a domain that has a mask of its own. Responds 404 if it has none.',
    params: { domain: domainName },
    query: { model: 'Id of the model. Optional if there is only one.' },
    response: named('RemovedOwnMask', removedOwnMask),
    errors: ['not_found', 'model_not_found', 'no_node_available'],
  },
  {
    method: 'delete',
    path: '/admin/domains/{domain}',
    id: 'deleteDomain',
    summary:
      'Deletes everything that is stored for a domain. Responds 404 for a domain that never had a text, and 409 while an update runs that may read its texts.',
    params: { domain: domainName },
    response: named('DeletedDomain', deletedDomain),
    accepted:
      'More is stored than one call can delete, or an update has begun that may read it: the rest is deleted within the next minutes, or when it has ended.',
    errors: ['not_found', 'conflict'],
  },
  {
    method: 'get',
    path: '/admin/holdout',
    id: 'getHoldout',
    summary: 'Returns the size and version of the general holdout.',
    response: named('GeneralHoldout', generalHoldout),
  },
  {
    method: 'put',
    path: '/admin/holdout',
    id: 'setHoldout',
    summary:
      'Sets the general holdout, text of your own that every new mask is judged on: 1,024 to 32,768 tokens. It is redacted.',
    body: named('ImportTexts', importTexts),
    response: named('GeneralHoldout', generalHoldout),
  },
  {
    method: 'delete',
    path: '/admin/holdout',
    id: 'deleteHoldout',
    summary:
      'Deletes the general holdout with all its versions and the evaluations on them. Responds 409 while an update runs.',
    response: named('GeneralHoldout', generalHoldout),
    errors: ['conflict'],
  },
])
