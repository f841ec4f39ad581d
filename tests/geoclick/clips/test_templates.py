import open_clip

from geoclick.clips.templates import AERIAL, IMAGENET, TEMPLATES


def test_the_imagenet_templates_are_those_of_openai():
    assert tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES) == IMAGENET
    assert len(IMAGENET) == 80


def test_every_template_names_the_query_once():
    for templates in TEMPLATES.values():
        assert all(template.count("{}") == 1 for template in templates)
        assert len(set(templates)) == len(templates)
    assert not set(AERIAL) & set(IMAGENET)
