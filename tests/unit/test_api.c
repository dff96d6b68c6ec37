/* The contract in api/openapi.yaml and the route table say the same: neither has a path or a method
 * that the other lacks, and every operation has a name of its own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "api/api.h"
#include "check.h"

enum { NAMES_MAX = 256 };

static char *described[NAMES_MAX];
static unsigned ndescribed;

static const char *text_of(yaml_document_t *doc, int node)
{
    const yaml_node_t *n = yaml_document_get_node(doc, node);
    return n && n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : "";
}

static yaml_node_t *member(yaml_document_t *doc, const yaml_node_t *map, const char *key)
{
    assert_non_null(map);
    assert_int_equal(map->type, YAML_MAPPING_NODE);
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
         p++) {
        if (strcmp(text_of(doc, p->key), key) == 0)
            return yaml_document_get_node(doc, p->value);
    }
    return NULL;
}

static void load_document(yaml_document_t *doc)
{
    const char *root = getenv("CAGED_SOURCE");
    CG_OWN(cg_drop_free) char *path = cg_format("%s/api/openapi.yaml", root ? root : ".");
    CG_OWN(cg_drop_file) FILE *f = fopen(path, "re");
    assert_non_null(f);
    yaml_parser_t parser;
    assert_int_equal(yaml_parser_initialize(&parser), 1);
    yaml_parser_set_input_file(&parser, f);
    assert_int_equal(yaml_parser_load(&parser, doc), 1);
    yaml_parser_delete(&parser);
}

static void describe_path(yaml_document_t *doc, const char *path, yaml_node_t *item)
{
    for (yaml_node_pair_t *p = item->data.mapping.pairs.start; p < item->data.mapping.pairs.top;
         p++) {
        const char *method = text_of(doc, p->key);
        if (strcmp(method, "parameters") == 0)
            continue;
        assert_non_null(member(doc, yaml_document_get_node(doc, p->value), "operationId"));
        assert_non_null(member(doc, yaml_document_get_node(doc, p->value), "responses"));
        assert_true(ndescribed < NAMES_MAX);
        char *name = cg_format("%s %s", method, path);
        for (char *c = name; *c != ' '; c++)
            *c = (char)(*c - 'a' + 'A');
        described[ndescribed++] = name;
    }
}

static bool is_described(const char *name)
{
    for (unsigned i = 0; i < ndescribed; i++) {
        if (strcmp(described[i], name) == 0)
            return true;
    }
    return false;
}

static bool is_routed(const char *name)
{
    for (const char *const *r = cg_api_route_names(); *r; r++) {
        if (strcmp(*r, name) == 0)
            return true;
    }
    return false;
}

static void routes_and_description_are_the_same(void **state)
{
    (void)state;
    yaml_document_t doc;
    load_document(&doc);
    yaml_node_t *paths = member(&doc, yaml_document_get_root_node(&doc), "paths");
    assert_non_null(paths);
    for (yaml_node_pair_t *p = paths->data.mapping.pairs.start; p < paths->data.mapping.pairs.top;
         p++)
        describe_path(&doc, text_of(&doc, p->key), yaml_document_get_node(&doc, p->value));
    unsigned routed = 0;
    for (const char *const *r = cg_api_route_names(); *r; r++, routed++) {
        if (!is_described(*r))
            fail_msg("%s is served and not described", *r);
    }
    for (unsigned i = 0; i < ndescribed; i++) {
        if (!is_routed(described[i]))
            fail_msg("%s is described and not served", described[i]);
        free(described[i]);
    }
    assert_int_equal(routed, ndescribed);
    yaml_document_delete(&doc);
}

/* What may be asked without a key: whether the server is there, for a key, and for prices. The
 * scripted model has credentials of its own, which its handler asks for. */
static bool is_open(const char *route)
{
    static const char *const open[] = {"GET /health",
                                       "POST /signup",
                                       "POST /login",
                                       "POST /v1/auth/signup",
                                       "POST /v1/auth/login",
                                       "POST /v1/auth/device/code",
                                       "POST /v1/auth/device/token",
                                       "GET /v1/pricing",
                                       "POST /scripted/v1/messages"};
    for (size_t i = 0; i < CG_COUNT(open); i++) {
        if (strcmp(open[i], route) == 0)
            return true;
    }
    return false;
}

static void every_other_route_needs_a_key(void **state)
{
    (void)state;
    for (const struct route *r = api_routes; r->name; r++) {
        bool open = r->access == ACCESS_NONE;
        assert_int_equal(open, is_open(r->name));
        /* what changes something needs more than a reader's key; tickets are only as good as theirs
         */
        bool changes = strncmp(r->name, "GET ", 4) != 0;
        bool own_key = strstr(r->name, "socket-ticket") || strstr(r->name, "logout");
        if (changes && !open && !own_key)
            assert_true(r->access == ACCESS_WRITE || r->access == ACCESS_FULL);
        assert_int_equal(r->sandbox, strstr(r->name, "/sandboxes/{id}") != NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes_and_description_are_the_same),
        cmocka_unit_test(every_other_route_needs_a_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
